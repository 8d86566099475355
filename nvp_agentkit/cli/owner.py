"""At the running stack with its owner's own connection, which may do everything."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from redis.asyncio import Redis

    from nvp_agentkit.settings import Settings

T = TypeVar("T")


def at_stack(settings: Settings, work: Callable[[Redis, Settings], Awaitable[T]]) -> T:
    """Run ``work`` with the owner's connection to the stack that ``settings`` lead to.

    Raises:
        StackNotRunning: there is none.
        StoreUnavailable: its stream server is away, or refuses.
    """
    from redis.exceptions import ResponseError

    from nvp_agentkit.client.place import find_as_owner
    from nvp_agentkit.errors import StoreUnavailable
    from nvp_agentkit.streams.connect import connect, store_errors

    place = find_as_owner(settings)

    async def run() -> T:
        redis = await connect(place.settings)
        try:
            return await work(redis, place.settings)
        except ResponseError as error:
            raise StoreUnavailable(f"stream server refused: {error}; `nvp doctor` tells more") from error
        finally:
            await redis.aclose()

    with store_errors():
        return asyncio.run(run())
