"""What all clients of one account in an event loop share: connections, a reader of replies, the door."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING
from weakref import WeakKeyDictionary

from nvp_agentkit.settings import Settings
from nvp_agentkit.streams.connect import connect
from nvp_agentkit.streams.door import Door
from nvp_agentkit.streams.replies import ReplyReader

if TYPE_CHECKING:
    from redis.asyncio import Redis

CONNECTIONS = 16  # of what is asked and answered at once; beyond them calls wait their turn
Who = tuple[str | None, str, str | None]  # stream server, account, its password
_lines: WeakKeyDictionary[asyncio.AbstractEventLoop, dict[Who, _Shared]] = WeakKeyDictionary()


@dataclass(frozen=True)
class Line:
    """``following`` is for reads that wait, each on a connection of its own: the stories of jobs."""

    redis: Redis
    following: Redis
    replies: ReplyReader
    door: Door
    ends: AsyncExitStack


@dataclass(eq=False)
class _Shared:
    opening: asyncio.Task[Line]
    users: int = 0


@asynccontextmanager
async def line(settings: Settings, account: str) -> AsyncIterator[Line]:
    """The line of ``account`` with its login in ``settings``; closed with the last one that is inside.

    Raises:
        StoreUnavailable: the stream server does not answer.
    """
    lines = _lines.setdefault(asyncio.get_running_loop(), {})
    who = (settings.redis_url, account, settings.account_password)
    shared = lines.get(who)
    if shared is None:
        shared = lines[who] = _Shared(asyncio.create_task(_open(settings, account)))
    shared.users += 1
    try:
        try:
            opened = await asyncio.shield(shared.opening)  # who gives up does not end it for the others
        except Exception:
            if lines.get(who) is shared:
                del lines[who]  # the next one tries again
            raise
        yield opened
    finally:
        shared.users -= 1
        if not shared.users:
            if lines.get(who) is shared:
                del lines[who]
            await _close(shared)


async def _open(settings: Settings, account: str) -> Line:
    async with AsyncExitStack() as unless_done:
        redis = await connect(settings, connections=CONNECTIONS)
        unless_done.push_async_callback(redis.aclose)
        following = await connect(settings)
        unless_done.push_async_callback(following.aclose)
        replies = await unless_done.enter_async_context(ReplyReader(redis, account))
        ends = unless_done.pop_all()
    return Line(redis, following, replies, Door(redis, account), ends)


async def _close(shared: _Shared) -> None:
    shared.opening.cancel()
    await asyncio.gather(shared.opening, return_exceptions=True)
    if not shared.opening.cancelled() and shared.opening.exception() is None:
        await shared.opening.result().ends.aclose()
