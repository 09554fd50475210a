"""Several processes on this machine."""
