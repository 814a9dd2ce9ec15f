"""Write a data set's tables for Kaldi, SMS-WSJ or lhotse; the same as `msdet export`."""

import sys

from msdet.cli import run_command
from msdet.commands.export import export

if __name__ == "__main__":
    sys.exit(run_command(export, None, "export.py"))
