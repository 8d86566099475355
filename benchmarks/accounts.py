"""What many accounts cost: 20,000 requests in the streams of 1,000 accounts, beside as many in one account's stream.

One consumer with a no-op handler that answers and records, in batches of 100; embedded server, its log flushed every
second. The two take turns; the ratio is of neighbours, the median of the rounds.
"""

from __future__ import annotations

import asyncio
import gc
import statistics
import tempfile
import time
from pathlib import Path

from redis.asyncio import Redis

from benchmarks.consumer import consume_with_effects
from benchmarks.traffic import request
from benchmarks.verdict import Figure
from nvp_agentkit.embedded import children, valkey
from nvp_agentkit.settings import Settings
from nvp_agentkit.streams import connect, names, register

EVENTS, ACCOUNTS, ROUNDS = 20_000, 1_000, 3
QUICK_EVENTS, QUICK_ACCOUNTS = 2_000, 100


def measure(*, quick: bool) -> dict[str, Figure]:
    """Quick: a tenth of the messages and accounts, one round."""
    gc.freeze()  # as workers do
    events, accounts, rounds = (QUICK_EVENTS, QUICK_ACCOUNTS, 1) if quick else (EVENTS, ACCOUNTS, ROUNDS)
    with tempfile.TemporaryDirectory(prefix="nvp-accounts-") as folder:
        one, many = asyncio.run(_rounds(Path(folder), events, accounts, rounds))
    ratio = statistics.median(b / a for a, b in zip(one, many, strict=True))
    return {
        "one_account": Figure(round(statistics.median(one)), "msg/s", higher_is_better=True),
        f"accounts_{accounts}": Figure(round(statistics.median(many)), "msg/s", higher_is_better=True),
        "many_over_one": Figure(round(ratio, 3), "times", None if quick else 0.7, 0.9, higher_is_better=True),
    }


async def _rounds(folder: Path, events: int, accounts: int, rounds: int) -> tuple[list[float], list[float]]:
    server = await valkey.start(folder, appendfsync="everysec")
    try:
        async with await connect(Settings(redis_url=valkey.url(server))) as redis:
            one, many = [], []
            for _ in range(rounds):
                one.append(await _rate(redis, ["account-0"], events))
                many.append(await _rate(redis, [f"account-{k}" for k in range(accounts)], events))
            return one, many
    finally:
        await children.end(server.process, grace_s=0)


async def _rate(redis: Redis, accounts: list[str], events: int) -> float:
    """Requests spread evenly over ``accounts``: how many a second."""
    await redis.flushall()
    for account in accounts:
        await register(redis, account, owner="benchmarks")
    pipe = redis.pipeline(transaction=False)
    for k in range(events):
        pipe.xadd(names.key(accounts[k % len(accounts)], "predict"), {"event": request().encode()})
    await pipe.execute()
    began = time.perf_counter()
    await consume_with_effects(redis, events)
    return events / (time.perf_counter() - began)
