"""A program that becomes another one, tied to its parent: ``python tether.py PARENT_PID COMMAND...``

It asks the kernel for SIGKILL at its parent's death and then *becomes* the command, so no process stands
between the two and not even ``kill -9`` of the parent leaves a child behind. The parent may have died
before the question was asked; comparing ``getppid`` afterwards closes that gap. Where the kernel offers
no such signal (macOS), the program stays and watches its parent instead.

Standard library only: it runs without site-packages, in some 20 ms.
"""

from __future__ import annotations

import ctypes
import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from typing import NoReturn

PR_SET_PDEATHSIG = 1  # linux/prctl.h
POLL_S = 0.2


def die_with_parent(parent: int) -> None:
    """From now on this process is killed when the thread that started it ends (Linux; elsewhere nothing changes).

    For a Python child that is running already, such as a worker's compute process: ``parent`` is the pid
    that it was started from, so that a parent which died in between is noticed.
    """
    if sys.platform != "linux":
        return
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        os.kill(os.getpid(), signal.SIGKILL)


def watch(parent: int, argv: Sequence[str]) -> int:
    """Run ``argv`` as a child and end it once ``parent`` is gone: the tether without the kernel's help."""
    child = subprocess.Popen(argv)
    signal.signal(signal.SIGTERM, lambda number, frame: child.terminate())
    while child.poll() is None:
        if os.getppid() != parent:
            child.kill()
        time.sleep(POLL_S)
    return child.returncode


def main(parent: int, argv: list[str]) -> NoReturn:
    """Become ``argv``, tied to ``parent``."""
    signal.signal(signal.SIGPIPE, signal.SIG_DFL)  # Python ignores it, and what is ignored stays so over exec
    if sys.platform != "linux":
        sys.exit(watch(parent, argv))
    die_with_parent(parent)
    os.execvp(argv[0], argv)  # noqa: S606 - becoming the command is the purpose


if __name__ == "__main__":
    main(int(sys.argv[1]), sys.argv[2:])
