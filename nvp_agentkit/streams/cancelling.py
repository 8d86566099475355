"""Jobs that are wanted no more: a mark that whoever has such a job looks for, before it begins and while it runs."""

from __future__ import annotations

import time
from typing import Any

from redis.asyncio import Redis

from nvp_agentkit.streams import names
from nvp_agentkit.streams.claims import outlives_s
from nvp_agentkit.streams.delivery import Delivery


async def mark(redis: Redis, asked: Delivery, job_id: str, words: str) -> None:
    """Mark the job for as long as what ``asked`` for it is remembered; the first words stay."""
    key = names.cancelled(asked.account, job_id)
    await redis.set(key, words, nx=True, ex=outlives_s(asked, time.time()))


async def marked(redis: Redis, account: str, job_id: str) -> str | None:
    """Why the job is wanted no more; None while it is."""
    words: Any = await redis.get(names.cancelled(account, job_id))
    return None if words is None else words.decode()
