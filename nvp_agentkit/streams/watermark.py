"""How far a stream's readers are: what a caller waits for who wants to read its own writes."""

from __future__ import annotations

import asyncio
import time
from typing import Any

from redis.asyncio import Redis

from nvp_agentkit.streams import names
from nvp_agentkit.streams.connect import store_errors

POLL_S = 0.05


async def passed(redis: Redis, account: str, suffix: str, *, timeout_s: float) -> bool:
    """True once everything that is on the stream now has been done with; False after ``timeout_s``.

    Entries of these streams are deleted when they are acknowledged, so the oldest one left is the watermark.
    """
    stream = names.key(account, suffix)
    until = time.monotonic() + timeout_s
    with store_errors():
        newest = await redis.xrevrange(stream, count=1)
        while newest:
            oldest = await redis.xrange(stream, count=1)
            if not oldest or _order(oldest[0][0]) > _order(newest[0][0]):
                return True
            if time.monotonic() > until:
                return False
            await asyncio.sleep(POLL_S)
    return True


def _order(entry_id: Any) -> tuple[int, int]:
    ms, _, sequence = entry_id.decode().partition("-")
    return int(ms), int(sequence)
