"""Make a data set from an sms_wsj.json or a Kaldi directory; the same as `msdet import-set`."""

import sys

from msdet.cli import run_command
from msdet.commands.export import import_set

if __name__ == "__main__":
    sys.exit(run_command(import_set, None, "import_set.py"))
