"""Make a data set of multichannel mixtures; the same as `msdet simulate`."""

import sys

from msdet.cli import run_command
from msdet.commands.simulate import simulate

if __name__ == "__main__":
    sys.exit(run_command(simulate, None, "simulate.py"))
