"""Ending a stack that another process runs."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from contextlib import suppress
from pathlib import Path

from nvp_agentkit.embedded import lock
from nvp_agentkit.errors import StackError, StackNotRunning

PATIENCE_S = 12.0  # a stack ends within 10 s


async def down(data_dir: Path) -> int:
    """Ask the process that runs the stack of ``data_dir`` to end, wait until it has; its pid.

    One that does not listen within `PATIENCE_S` seconds is killed, and its children with it.

    Raises:
        StackNotRunning: there is none.
        StackError: it does not end even then.
    """
    pid = lock.holder(data_dir)
    if pid is None:
        raise StackNotRunning(f"no stack runs on data folder {data_dir}; there is nothing to end")
    for number in (signal.SIGTERM, signal.SIGKILL):
        if lock.holder(data_dir) == pid:
            with suppress(ProcessLookupError):
                os.kill(pid, number)
        if await _let_go(data_dir, pid):
            return pid
    raise StackError(f"process {pid}, which runs the stack of {data_dir}, does not end; see what it waits for "
                     f"with `ps -o stat,wchan {pid}`")


async def _let_go(data_dir: Path, pid: int) -> bool:
    """Whether the process, and after it all it had started, is gone within `PATIENCE_S` seconds."""
    deadline = time.monotonic() + PATIENCE_S
    while (holder := lock.holder(data_dir)) == pid or (holder is None and lock.left_over(data_dir)):
        if time.monotonic() > deadline:
            return False
        await asyncio.sleep(0.05)
    return True
