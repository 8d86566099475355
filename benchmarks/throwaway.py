"""Environments of their own for peers, made for one run and left to nobody."""

from __future__ import annotations

import subprocess
import sys
import venv
from pathlib import Path

from benchmarks.verdict import ROOT

INSTALL_S = 600


def environment(home: Path, *packages: str, pins: Path = ROOT / "constraints.txt") -> Path | None:
    """The interpreter of an environment at ``home`` that has ``packages``; None where they cannot be installed."""
    venv.create(home, with_pip=True)
    python = home / "bin" / "python"
    wanted = ["-c", str(pins), *packages]
    try:
        subprocess.run([python, "-m", "pip", "-q", "install", *wanted], check=True, timeout=INSTALL_S)
    except (subprocess.CalledProcessError, subprocess.TimeoutExpired) as error:
        print(f"{packages[0]} is left out: {error}", file=sys.stderr)
        return None
    return python
