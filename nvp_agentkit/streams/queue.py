"""What a stream's first group has not done with: what waits for a worker, and what its workers have in hand."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from redis.asyncio import Redis
from redis.exceptions import ResponseError

from nvp_agentkit.errors import InvalidMessage
from nvp_agentkit.messages import Event, decode
from nvp_agentkit.streams import names


async def waiting(redis: Redis, account: str, suffix: str, *, count: int = 100) -> list[Event]:
    """The oldest ``count`` messages that nobody has taken yet, without those that are none."""
    stream = names.key(account, suffix)
    groups: list[Any] = await redis.xinfo_groups(stream) if await redis.exists(stream) else []
    last = next((one["last-delivered-id"] for one in groups if one["name"].decode() == names.GROUPS[suffix][0]), b"0-0")
    entries: Any = await redis.xrange(stream, min=f"({last.decode()}", count=count)
    return _events(fields for _, fields in entries)


async def in_hand(redis: Redis, account: str, suffix: str, *, count: int = 100) -> list[Event]:
    """The oldest ``count`` that were taken and are not done with: worked on, prepared, or between two attempts."""
    stream = names.key(account, suffix)
    try:
        pending: Any = await redis.xpending_range(stream, names.GROUPS[suffix][0], "-", "+", count)
    except ResponseError:
        return []  # no stream, or no group: nobody has taken anything
    pipe = redis.pipeline(transaction=False)
    for one in pending:
        pipe.xrange(stream, one["message_id"], one["message_id"])
    return _events(fields for found in await pipe.execute() for _, fields in found)


def _events(entries: Iterable[Mapping[bytes, bytes]]) -> list[Event]:
    found = []
    for fields in entries:
        try:
            found.append(decode(fields.get(b"event", b"")))
        except InvalidMessage:
            continue
    return found
