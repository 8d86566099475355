"""One stack a data folder, and nothing left over from the one before.

The lock is the kernel's (flock): it goes with its process, whatever way that ends. Children carry the
folder in their environment as `TETHERED_TO`; whoever holds the lock may therefore end what still carries it.
"""

from __future__ import annotations

import fcntl
import os
import signal
import sys
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from nvp_agentkit.errors import DataFolderInUse, StackError
from nvp_agentkit.settings import TETHERED_TO

MARK = os.fsencode(f"{TETHERED_TO}=")
PATIENCE_S = 1.0  # a reader asking `holder` has the lock for an instant; an ended stack lets go in about as long


@dataclass(frozen=True)
class FolderLock:
    """The right to run the stack of ``folder``, until `release` or the end of this process."""

    folder: Path
    fd: int

    def release(self) -> None:
        os.close(self.fd)


def acquire(folder: Path) -> FolderLock:
    """Lock ``folder``, creating it if need be (mode 0700).

    Raises:
        DataFolderInUse: another process runs its stack there.
        StackError: the folder cannot be written.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        fd = os.open(folder / "lock", os.O_RDWR | os.O_CREAT, 0o600)
    except OSError as error:
        raise unusable(folder, error) from error
    deadline = time.monotonic() + PATIENCE_S
    while not _lock(fd, fcntl.LOCK_EX):
        if time.monotonic() > deadline:
            pid = os.pread(fd, 32, 0).decode().strip() or "unknown"
            os.close(fd)
            raise DataFolderInUse(f"data folder {folder} is in use by process {pid}; end it with `nvp down` "
                                  "or choose another folder with --data-dir")
        time.sleep(0.05)
    try:
        os.pwrite(fd, f"{os.getpid():<20}".encode(), 0)  # of one length: a reader never sees half a number
    except OSError as error:
        os.close(fd)
        raise unusable(folder, error) from error
    return FolderLock(folder, fd)


def unusable(folder: Path, error: OSError) -> StackError:
    """What the system says of a folder that cannot be written, and what to do."""
    where = f" ({error.filename})" if error.filename else ""
    what = "is a file" if isinstance(error, FileExistsError) else error.strerror
    return StackError(f"data folder {folder}: {what}{where}; choose another with --data-dir")


def holder(folder: Path) -> int | None:
    """The process that runs the stack of ``folder``, None if none does."""
    try:
        fd = os.open(folder / "lock", os.O_RDONLY)
    except FileNotFoundError:
        return None
    try:
        if _lock(fd, fcntl.LOCK_SH):
            return None
        written = os.pread(fd, 32, 0)
        return int(written) if written else None  # locked this instant: not yet a stack to speak to
    finally:
        os.close(fd)


def left_over(folder: Path) -> list[int]:
    """Processes that carry ``folder``, or a store's folder in it, in their environment.

    Not those of a data folder inside it: that has a lock of its own. Linux only; elsewhere the tether has to do.
    """
    if sys.platform != "linux":
        return []
    top = folder.resolve()
    found = []
    for environment in Path("/proc").glob("[0-9]*/environ"):
        pid = int(environment.parent.name)
        with suppress(OSError):  # ended meanwhile, or somebody else's
            entries = environment.read_bytes().split(b"\0")
            mark = next((one for one in entries if one.startswith(MARK)), None)
            if pid != os.getpid() and mark is not None and _belongs(Path(os.fsdecode(mark[len(MARK) :])), top):
                found.append(pid)
    return found


def _belongs(tethered_to: Path, folder: Path) -> bool:
    within = tethered_to.parent == folder and not (tethered_to / "lock").exists()
    return tethered_to == folder or within


def sweep(held: FolderLock) -> int:
    """End what an earlier stack of the folder left running; returns how many processes that were."""
    victims = left_over(held.folder)
    for pid in victims:
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    deadline = time.monotonic() + PATIENCE_S
    while left_over(held.folder) and time.monotonic() < deadline:
        time.sleep(0.02)
    return len(victims)


def _lock(fd: int, kind: int) -> bool:
    try:
        fcntl.flock(fd, kind | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
