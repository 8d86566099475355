"""Run a command so that it dies with the process that started it, even by ``kill -9``.

This file is also a program, ``python tether.py PARENT_PID COMMAND...``: it asks the kernel for SIGKILL
when its parent dies and then *becomes* the command, so no process stands between the two. The parent
may have died before the question was asked; comparing ``getppid`` afterwards closes that gap. Where the
kernel offers no such signal (macOS), the program stays and watches its parent instead.

The signal is tied to the *thread* that started the child (man 2 prctl): launch from the main thread.
Only the standard library is used here: the program runs without site-packages, in some 20 ms.
"""

from __future__ import annotations

import asyncio
import ctypes
import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path

PR_SET_PDEATHSIG = 1  # linux/prctl.h
POLL_S = 0.05


def launch(
    argv: Sequence[str], *, env: Mapping[str, str], log: Path, cwd: Path | None = None
) -> subprocess.Popen[bytes]:
    """Start ``argv`` tethered to this process, in a session of its own, its output appended to ``log``.

    A session of its own keeps a Ctrl-C at the terminal away from it: the parent decides the order of ending.
    """
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("ab") as output:
        return subprocess.Popen(
            [sys.executable, "-I", "-S", __file__, str(os.getpid()), *argv],
            env=dict(env),
            cwd=cwd,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )


async def end(process: subprocess.Popen[bytes], *, grace_s: float) -> int:
    """Ask the process to end, insist after ``grace_s`` seconds; its exit status (negative: the signal).

    What it left behind in its session (a worker's compute child) is ended with it.
    """
    if process.poll() is None:
        process.terminate()
        deadline = time.monotonic() + grace_s
        while process.poll() is None and time.monotonic() < deadline:
            await asyncio.sleep(POLL_S)
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    while process.poll() is None:
        await asyncio.sleep(POLL_S)
    return process.returncode


def die_with_parent(parent: int) -> None:
    """From now on the kernel ends this process when the thread that started it ends. Linux only.

    For a Python child that is already running, such as a worker's compute process.
    """
    ctypes.CDLL(None, use_errno=True).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        os.kill(os.getpid(), signal.SIGKILL)


def watch(parent: int, argv: Sequence[str]) -> int:
    """Run ``argv`` as a child and end it once ``parent`` is gone: the tether without kernel support."""
    child = subprocess.Popen(argv)
    signal.signal(signal.SIGTERM, lambda number, frame: child.terminate())
    while child.poll() is None:
        if os.getppid() != parent:
            child.kill()
        time.sleep(POLL_S)
    return child.returncode


def main(parent: int, argv: Sequence[str]) -> int:
    """Become ``argv``, tied to ``parent``; returns only where the kernel cannot tie them."""
    signal.signal(signal.SIGPIPE, signal.SIG_DFL)  # Python ignores it, and what is ignored stays so over exec
    if sys.platform != "linux":
        return watch(parent, argv)
    die_with_parent(parent)
    os.execvp(argv[0], argv)


if __name__ == "__main__":
    sys.exit(main(int(sys.argv[1]), sys.argv[2:]))
