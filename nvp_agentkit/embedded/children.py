"""Child processes on a tether: start one, see it gone, end it with all that it started."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path

from nvp_agentkit.embedded import tether
from nvp_agentkit.errors import StackError
from nvp_agentkit.settings import TETHERED_TO

POLL_S = 0.05


def launch(
    argv: Sequence[str], *, env: Mapping[str, str], log: Path, folder: Path, cwd: Path | None = None
) -> subprocess.Popen[bytes]:
    """Start ``argv`` so that it dies with this process; its output is appended to ``log``.

    ``folder`` is the data folder it works for: what still carries it in its environment can be found.

    It gets a session of its own: a Ctrl-C at the terminal reaches the parent alone, which decides the
    order of ending, and what the child itself starts can be ended as one group.

    Raises:
        StackError: not in the main thread. The tether is tied to the starting *thread* (man 2 prctl), and
            the child would die with that one.
    """
    if threading.current_thread() is not threading.main_thread():
        raise StackError(f"{argv[0]} must be started from the main thread; it would end with this one")
    with log.open("ab") as output:
        return subprocess.Popen(
            [sys.executable, "-I", "-S", tether.__file__, str(os.getpid()), *argv],
            env={**env, TETHERED_TO: str(folder.resolve())},
            cwd=cwd,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )


async def gone(process: subprocess.Popen[bytes], *, within_s: float) -> bool:
    """True as soon as the process has ended, False after ``within_s`` seconds."""
    deadline = time.monotonic() + within_s
    while process.poll() is None:
        if time.monotonic() >= deadline:
            return False
        await asyncio.sleep(POLL_S)
    return True


async def end(process: subprocess.Popen[bytes], *, grace_s: float) -> int:
    """SIGTERM, after ``grace_s`` seconds SIGKILL; returns the exit status (negative: the signal).

    Processes it left in its group (a worker's compute child) end with it. Safe to call twice.
    """
    if process.poll() is None:
        process.terminate()
        await gone(process, within_s=grace_s)
    with suppress(ProcessLookupError, PermissionError):  # macOS says "not permitted" for a group of zombies
        os.killpg(process.pid, signal.SIGKILL)
    await gone(process, within_s=grace_s)
    return process.wait()
