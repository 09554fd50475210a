"""The command line's commands: words to calls."""
