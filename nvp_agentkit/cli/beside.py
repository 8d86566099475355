"""``nvp up`` beside a stack that is there already: left as it is, waited for while it starts, else refused."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING

import typer

from nvp_agentkit.cli import deployment

if TYPE_CHECKING:
    from nvp_agentkit.embedded.stackfile import StackFile
    from nvp_agentkit.settings import Settings
    from nvp_agentkit.streams.health import WorkerState

LOOK_S = 0.1
STORES = "its stores"


def ready_already(settings: Settings) -> int | None:
    """The process that keeps the stack of the data folder, where one runs of which every worker is ready."""
    stack, waiting = _there(settings)
    return None if stack is None or waiting else stack.pid


def once_ready(settings: Settings) -> int:
    """The process that is starting the stack of the data folder, once every worker is ready.

    Raises:
        DataFolderInUse: it is not ready, and has had the time to be.
        StackError: it ended.
    """
    from nvp_agentkit.embedded import lock
    from nvp_agentkit.errors import DataFolderInUse, StackError

    folder, began, told = settings.data_dir, time.monotonic(), False
    while (holder := lock.holder(folder)) is not None:
        stack, waiting = _there(settings)
        if stack is not None and not waiting:
            return stack.pid
        age_s = 0.0 if stack is None else time.time() - stack.started_ms / 1000
        if max(age_s, time.monotonic() - began) > deployment.READY_S:
            raise DataFolderInUse(
                f"data folder {folder} is in use by process {holder}, and not ready there: {', '.join(waiting)}; "
                "`nvp status` and `nvp logs` tell why, `nvp down` ends it"
            )
        if not told:
            typer.echo(f"Data folder {folder} is in use by process {holder}; waiting until it is ready", err=True)
            told = True
        time.sleep(LOOK_S)
    raise StackError(f"the stack on data folder {folder} has ended; see {folder / 'logs'}, then `nvp up` again")


def _there(settings: Settings) -> tuple[StackFile | None, list[str]]:
    """The stack that runs on the data folder, None where none has stores yet; and what of it is not ready."""
    from nvp_agentkit.embedded.stackfile import read_stack
    from nvp_agentkit.errors import StackNotRunning, StoreUnavailable
    from nvp_agentkit.streams import RedisError

    try:
        stack = read_stack(settings.data_dir)
    except StackNotRunning:
        return None, [STORES]
    try:
        return stack, deployment.unready(asyncio.run(_workers(stack.over(settings))))
    except (RedisError, StoreUnavailable):
        return stack, [STORES]


async def _workers(settings: Settings) -> list[WorkerState]:
    from nvp_agentkit.streams.connect import connect
    from nvp_agentkit.streams.health import workers

    redis = await connect(settings)
    try:
        return await workers(redis)
    finally:
        await redis.aclose()
