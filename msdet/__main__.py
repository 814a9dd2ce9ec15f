"""``python -m msdet <command>``."""

import sys

from msdet.cli import main

if __name__ == "__main__":
    sys.exit(main())
