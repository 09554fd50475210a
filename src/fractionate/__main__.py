"""``python -m fractionate``."""

import sys

from fractionate.cli import main

if __name__ == "__main__":
    sys.exit(main())
