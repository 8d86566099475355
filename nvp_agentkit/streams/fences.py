"""A long job's fence: a counter, raised by whoever begins the job, under which alone its checkpoint moves.

The entry's lease lets one worker complete; this is for what a worker does meanwhile. A worker that was stopped and
wakes up still believes that the job is its own, and a delivery count would not tell it otherwise. Where it wakes before
it has begun, the count does tell: an attempt that is not the latest is not begun any more.
"""

from __future__ import annotations

import time

from redis.asyncio import Redis

from nvp_agentkit.errors import Cancelled
from nvp_agentkit.streams import names
from nvp_agentkit.streams.claims import outlives_s
from nvp_agentkit.streams.delivery import Delivery
from nvp_agentkit.streams.scripts import call


async def begin(
    redis: Redis, delivery: Delivery, work: str | None = None, *, longer_s: int = 0
) -> tuple[int, str | None]:
    """Begin the job, perhaps once more: the fence of this attempt, and what earlier ones pointed at last.

    ``work``: what several jobs may do one after the other, so that their attempts have one fence. It is remembered for
    ``longer_s`` more than a job is.

    Raises:
        Cancelled: a later attempt at this job has begun; the fence is its own, and nothing has changed.
    """
    job = names.attempts(delivery.account, delivery.request_id)
    key = job if work is None else names.attempts(delivery.account, work)
    attempt, kept_s = delivery.earlier + delivery.attempt, outlives_s(delivery, time.time())
    found = await call(redis, "begin", [key, job], [attempt, kept_s + longer_s, kept_s])
    if not found:
        raise Cancelled(
            f"attempt {attempt} at job {delivery.request_id} comes after a later one has begun; "
            "another worker has this job now"
        )
    fence, *at = found
    return fence, at[0].decode() if at and at[0] else None


async def point(
    redis: Redis, delivery: Delivery, fence: int, at: str, work: str | None = None, *, longer_s: int = 0
) -> bool:
    """Point at ``at`` from now on; False where another attempt has begun, and nothing has changed."""
    key = names.attempts(delivery.account, work or delivery.request_id)
    return bool(await call(redis, "point", [key], [fence, at, outlives_s(delivery, time.time()) + longer_s]))
