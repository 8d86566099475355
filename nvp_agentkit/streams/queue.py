"""What waits on a stream for a worker to take it."""

from __future__ import annotations

from typing import Any

from redis.asyncio import Redis

from nvp_agentkit.errors import InvalidMessage
from nvp_agentkit.messages import Event, decode
from nvp_agentkit.streams import names


async def waiting(redis: Redis, account: str, suffix: str, *, count: int = 100) -> list[Event]:
    """The oldest ``count`` messages that the stream's first group has not taken yet, without those that are none."""
    stream = names.key(account, suffix)
    groups: list[Any] = await redis.xinfo_groups(stream) if await redis.exists(stream) else []
    last = next((one["last-delivered-id"] for one in groups if one["name"].decode() == names.GROUPS[suffix][0]), b"0-0")
    entries: Any = await redis.xrange(stream, min=f"({last.decode()}", count=count)
    found = []
    for _, fields in entries:
        try:
            found.append(decode(fields.get(b"event", b"")))
        except InvalidMessage:
            continue
    return found
