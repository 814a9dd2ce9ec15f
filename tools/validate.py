"""Find what is wrong with data sets, and what they share that they must not; the same as `msdet validate`."""

import sys

from msdet.cli import run_command
from msdet.commands.validate import validate

if __name__ == "__main__":
    sys.exit(run_command(validate, None, "validate.py"))
