"""The data folder: can it be written and locked, is there room, who runs a stack there, what did a dead one leave."""

from __future__ import annotations

import errno
import fcntl
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from nvp_agentkit import __version__
from nvp_agentkit.cli.doctor.finding import Finding, broken, ok, warning

PROBE_BYTES = 65_536
LITTLE_BYTES = 1_000_000_000
ELSEWHERE = "or choose another folder with --data-dir or NVP_DATA_DIR"
REMEDIES = {
    errno.ENOSPC: f"free some space there, {ELSEWHERE}",
    errno.EDQUOT: f"free some of your quota there, {ELSEWHERE}",
    errno.EROFS: f"mount it for writing, {ELSEWHERE}",
    errno.EACCES: f"chown or chmod it so that you may write, {ELSEWHERE}",
    errno.ENOTDIR: f"move the file away, {ELSEWHERE}",
}


def findings(data_dir: Path) -> Iterator[Finding]:
    yield writable(data_dir)
    yield disk(shutil.disk_usage(_nearest(data_dir)).free)
    yield from stack(data_dir)


def writable(data_dir: Path) -> Finding:
    """Write, flush to disk and lock a file without a name, where the folder is or will be."""
    where = _nearest(data_dir)
    try:
        with tempfile.TemporaryFile(dir=where) as probe:
            probe.write(bytes(PROBE_BYTES))
            probe.flush()
            os.fsync(probe.fileno())
            return lockable(where, probe.fileno()) or ok("data folder", str(data_dir))
    except OSError as error:
        remedy = REMEDIES.get(error.errno or 0, f"repair that, {ELSEWHERE}")
        return broken("data folder", f"{where}: {error.strerror}", remedy)


def lockable(where: Path, fd: int) -> Finding | None:
    """What is wrong with locks where the open file ``fd`` is, if anything."""
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        remedy = "choose a folder on a local disk with --data-dir or NVP_DATA_DIR"
        return broken("data folder", f"{where}: its file system has no locks ({error.strerror})", remedy)
    return None


def disk(free_bytes: int) -> Finding:
    text = f"{free_bytes / 1e9:.1f} GB free"
    if free_bytes < LITTLE_BYTES:
        return warning("disk", f"{text}, less than 1 GB", REMEDIES[errno.ENOSPC])
    return ok("disk", text)


def stack(data_dir: Path) -> Iterator[Finding]:
    """Who holds the folder's lock, and what of a stack is there without one."""
    from nvp_agentkit.embedded import lock

    try:
        holder = lock.holder(data_dir)
    except NotADirectoryError:  # `writable` has said so
        return
    except OSError as error:
        yield broken("stack", f"{error.filename}: {error.strerror}", f"run nvp as the folder's owner, {ELSEWHERE}")
        return
    if holder is not None:
        yield ok("stack", f"process {holder} runs it")
    elif left := lock.left_over(data_dir):
        pids = ", ".join(map(str, sorted(left)))
        yield broken("stack", f"its keeper is dead, processes are left: {pids}", "`nvp up` ends them and starts anew")
    else:
        yield ok("stack", "none runs on this folder; `nvp up` starts one")
    yield from stack_file(data_dir / "stack.json", holder)


def stack_file(path: Path, holder: int | None) -> Iterator[Finding]:
    """What clients find the stack by; ``holder`` is the process that holds the folder's lock."""
    from pydantic import ValidationError

    from nvp_agentkit.embedded.stackfile import StackFile

    again = "`nvp up` writes it anew" if holder is None else "`nvp down`, then `nvp up`"
    wait = "wait, or see `nvp logs stack`"
    try:
        mode = path.stat().st_mode & 0o777
        found = StackFile.model_validate_json(path.read_text())
    except FileNotFoundError:
        if holder is not None:
            yield warning("stack.json", "not there yet: the stores are coming up", wait)
        return
    except OSError as error:
        yield broken("stack.json", f"{path}: {error.strerror}", f"run nvp as the folder's owner, {ELSEWHERE}")
        return
    except ValidationError:
        yield broken("stack.json", "of another version of nvp, or damaged", again)
        return
    if mode & 0o077:
        yield broken("stack.json", f"mode {mode:04o}, so that others can read its passwords", f"chmod 600 {path}")
    if found.version != __version__:
        yield broken("stack.json", f"of version {found.version}, this is {__version__}", again)
    elif holder is None:
        yield warning("stack.json", "left by a stack that was killed", again)
    elif found.pid != holder:
        yield warning("stack.json", f"of process {found.pid}, which is gone: the stores are coming up", wait)
    else:
        yield ok("stack.json", f"version {found.version}")


def _nearest(folder: Path) -> Path:
    """The folder itself, or the nearest one above it that is there."""
    for one in (folder, *folder.parents):
        with suppress(PermissionError):  # below a folder that we may not look into
            if one.exists():
                return one
    return folder
