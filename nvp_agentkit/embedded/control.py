"""Ending a stack that another process runs."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from contextlib import suppress
from pathlib import Path

from nvp_agentkit.embedded import lock
from nvp_agentkit.embedded.stackfile import read_stack
from nvp_agentkit.errors import StackError, StackNotRunning

PATIENCE_S = 2.0  # beyond the time in which a stack says that it ends
STARTING_S = 10.0  # in which one ends that has not said it yet


async def down(data_dir: Path) -> int:
    """Ask the process that runs the stack of ``data_dir`` to end, wait until it has; its pid.

    Its workers finish what they have in hand, as long as their drain allows. One that is not gone `PATIENCE_S` seconds
    after the time that it says it takes is killed, and its children with it.

    Raises:
        StackNotRunning: there is none.
        StackError: it does not end even then.
    """
    pid = lock.holder(data_dir)
    if pid is None:
        raise StackNotRunning(f"no stack runs on data folder {data_dir}; there is nothing to end")
    patience_s = _ends_within_s(data_dir) + PATIENCE_S
    for number in (signal.SIGTERM, signal.SIGKILL):
        if lock.holder(data_dir) == pid:
            with suppress(ProcessLookupError):
                os.kill(pid, number)
        if await _let_go(data_dir, pid, patience_s):
            return pid
    raise StackError(f"process {pid}, which runs the stack of {data_dir}, does not end; see what it waits for "
                     f"with `ps -o stat,wchan {pid}`")


def _ends_within_s(data_dir: Path) -> float:
    try:
        return read_stack(data_dir).ends_within_s
    except StackError:  # still starting, or of a release whose file says something else
        return STARTING_S


async def _let_go(data_dir: Path, pid: int, patience_s: float) -> bool:
    """Whether the process, and after it all it had started, is gone within ``patience_s`` seconds."""
    deadline = time.monotonic() + patience_s
    while (holder := lock.holder(data_dir)) == pid or (holder is None and lock.left_over(data_dir)):
        if time.monotonic() > deadline:
            return False
        await asyncio.sleep(0.05)
    return True
