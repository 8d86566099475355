"""What a worker does again and again beside its messages."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import suppress

import structlog
from redis.asyncio import Redis

from nvp_agentkit.errors import NvpError
from nvp_agentkit.streams import RedisError, known

log = structlog.get_logger()


async def every(seconds: float, stop: asyncio.Event) -> AsyncIterator[None]:
    """Now, and once more after each ``seconds``, until ``stop``."""
    while not stop.is_set():
        yield
        with suppress(TimeoutError):
            await asyncio.wait_for(stop.wait(), seconds)


async def for_each_account(redis: Redis, do: Callable[[str], Awaitable[None]], *, failed: str) -> None:
    """``do`` it for every account. One account's trouble, such as a key of the wrong type, is not the others'."""
    try:
        accounts = await known(redis)
    except RedisError as error:
        log.warning(failed, reason=str(error))
        return
    for account in accounts:
        try:
            await do(account)
        except (NvpError, RedisError) as error:
            log.warning(failed, account=account, reason=str(error))
