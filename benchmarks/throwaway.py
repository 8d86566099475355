"""Environments of their own for peers: made for one run, or kept for as long as their pins are the same."""

from __future__ import annotations

import subprocess
import sys
import venv
from pathlib import Path

from benchmarks.cells import KEPT
from benchmarks.verdict import ROOT, BrokenError

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


def kept_environment(name: str, *packages: str, pins: Path) -> Path:
    """The interpreter of an environment that has ``packages``, made once.

    Raises:
        BrokenError: they cannot be installed.
    """
    home = KEPT / name
    ready = home / "ready"
    if not ready.exists() or ready.read_text() != pins.read_text():
        if environment(home, *packages, pins=pins) is None:
            raise BrokenError(f"{', '.join(packages)} cannot be installed; this benchmark needs a package index")
        ready.write_text(pins.read_text())
    return home / "bin" / "python"
