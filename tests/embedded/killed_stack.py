"""``nvp up`` with the two workers that answer a forecast and record it: ``killed_stack.py foreground|again FOLDER``."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

from nvp_agentkit.cli import deployment, stack


def again(folder: Path) -> int:
    """Start it in the background; 0 as soon as it is ready."""
    output = folder.with_suffix(".output")
    with output.open("wb") as file:
        command = [sys.executable, __file__, "foreground", str(folder)]
        process = subprocess.Popen(command, stdout=file, stderr=file, start_new_session=True)
    while b'"name": "stack"' not in output.read_bytes():
        if process.poll() is not None:
            print(output.read_text())
            return 1
        time.sleep(0.05)
    return 0


if __name__ == "__main__":
    deployment.WORKERS = ("inference", "recorder")
    if sys.argv[1] == "again":
        sys.exit(again(Path(sys.argv[2])))
    stack.up(Path(sys.argv[2]), foreground=True, as_json=True)
