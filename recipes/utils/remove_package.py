"""Delete a package that msdet wrote as a folder, if there is one; any other folder is refused."""

from __future__ import annotations

import re
import sys
from pathlib import Path

from msdet.cli import run_command
from msdet.io.files import FolderKind, remove_folder
from msdet.models.packages import MAX_BYTES, MODEL_FILE, SCORES_FILE

PACKAGE = FolderKind("package", (MODEL_FILE, SCORES_FILE), "schema", "|".join(map(re.escape, MAX_BYTES)))
"""Of a killed run, the model's description is not there yet."""


def remove_package(folder: Path) -> None:
    """Delete a package.

    Args:
        folder: of the package.
    """
    remove_folder(folder, PACKAGE)


if __name__ == "__main__":
    sys.exit(run_command(remove_package, None, "remove_package.py"))
