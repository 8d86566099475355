"""A job's live story: progress events on the job's own stream."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Collection
from typing import Any

from redis.asyncio import Redis

from nvp_agentkit.errors import DeadlineExceeded
from nvp_agentkit.messages import Event, decode
from nvp_agentkit.streams import names
from nvp_agentkit.streams.connect import AWAY
from nvp_agentkit.streams.replies import answer, newest
from nvp_agentkit.streams.scripts import call

log = logging.getLogger(__name__)

TTL_S = 3600
BLOCK_S = 1.0
LAST_LOOK_S = 1.0  # at the end, or for whoever comes when it is over
KEPT = 1000  # lines of one job


async def report(
    redis: Redis, account: str, job_id: str, event: Event, *, fence: int = 0, work: str | None = None
) -> bool:
    """Append one progress event to the job's stream, which expires `TTL_S` after its last line.

    False where ``fence`` is not the newest of the job, or of its ``work`` (`fences.begin`; 0: nobody has begun it), and
    nothing has happened.
    """
    keys = [names.job(account, job_id), names.attempts(account, work or job_id)]
    return bool(await call(redis, "tell", keys, [fence, event.encode(), KEPT, TTL_S]))


async def newest_line(redis: Redis, account: str, job_id: str) -> Event | None:
    """What was told last of a job; None where nothing was, or long ago."""
    lines: Any = await redis.xrevrange(names.job(account, job_id), count=1)
    return decode(lines[0][1][b"event"]) if lines else None


async def follow(
    redis: Redis, account: str, job_id: str, *, finals: Collection[str], timeout_s: float
) -> AsyncIterator[Event]:
    """The job's progress from its first line, then its final reply (one of the types ``finals``), then the end.

    What is there already is given whatever ``timeout_s`` is: at least one look is taken.

    Raises:
        DeadlineExceeded: no final reply within ``timeout_s``.
    """
    until = time.monotonic() + timeout_s
    story, replies = names.job(account, job_id), names.replies(account)
    positions: dict[Any, Any] | None = None
    late = False
    while not late:
        left_s = until - time.monotonic()
        late = left_s <= 0
        try:
            async with asyncio.timeout(max(left_s, LAST_LOOK_S)):
                if positions is None:
                    positions = {story: "0-0", replies: await newest(redis, account)}
                # Looked for before the lines are read, so that no line written before it is left out.
                final = await answer(redis, account, job_id, finals)
                block_ms = None if final or late else max(1, int(1000 * min(BLOCK_S, left_s)))
                found: Any = await redis.xread(positions, block=block_ms)
        except (TimeoutError, *AWAY) as error:
            log.warning("story of job %s not read, trying again: %s", job_id, error)
            await asyncio.sleep(min(0.25, max(left_s, 0)))
            continue
        for stream, entries in found:
            positions[stream.decode()] = entries[-1][0]
            if stream.decode() == story:
                for _, fields in entries:
                    yield decode(fields[b"event"])
        if final:
            yield final
            return
    raise DeadlineExceeded(
        f"job {job_id}: no final reply within {max(timeout_s, 0):.1f} s; it may still be running, follow it again"
    )
