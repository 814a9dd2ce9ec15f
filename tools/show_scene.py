"""Draw a scene: its room, who talks when and where, its responses, its sound; as `msdet show-scene`."""

import sys

from msdet.cli import run_command
from msdet.commands.show_scene import show_scene

if __name__ == "__main__":
    sys.exit(run_command(show_scene, None, "show_scene.py"))
