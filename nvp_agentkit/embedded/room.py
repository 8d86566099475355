"""Room on the disk of a data folder: a store that is started without any would only end again.

One that runs is the graph's danger: what ArcadeDB cannot append to its log as a whole it leaves there by half, and
a recovery after ``kill -9`` reads up to that place and no further. An orderly end needs no recovery, so it is ended
before (`is_scarce`), or as soon as its log says `FULL`.
"""

from __future__ import annotations

import shutil
from pathlib import Path

from nvp_agentkit.errors import StackError

LEAST_MB = 16  # what a first start writes is 11 MB; a stack that runs goes on
SCARCE_MB = 4  # for an orderly end
FULL = b"No space left on device"  # how a server's log says that it met a full disk


def check(folder: Path) -> None:
    """See that a store can be started on ``folder``.

    Raises:
        StackError: less than `LEAST_MB` are free there.
    """
    free = _free_mb(folder)
    if free < LEAST_MB:
        raise StackError(f"the disk of {folder} has {free:.1f} MB left, a store needs {LEAST_MB} MB to start; "
                         "make room there, or choose another folder with --data-dir")


def is_scarce(folder: Path) -> bool:
    """True where less than `SCARCE_MB` are free: time to end what would suffer from a full disk."""
    try:
        return _free_mb(folder) < SCARCE_MB
    except OSError:  # the folder is gone; that is not for want of room
        return False


def hint(folder: Path) -> str:
    """Words for whoever finds a store of ``folder`` away, if a full disk is the likely reason."""
    try:
        free = _free_mb(folder)
    except OSError:
        return ""
    return f"; the disk of {folder} is full ({free:.1f} MB left), make room there" if free < LEAST_MB else ""


def _free_mb(folder: Path) -> float:
    return shutil.disk_usage(folder).free / 1e6
