"""Count and draw what a data set or an RIR bank holds; the same as `msdet describe`."""

import sys

from msdet.cli import run_command
from msdet.commands.describe import describe

if __name__ == "__main__":
    sys.exit(run_command(describe, None, "describe.py"))
