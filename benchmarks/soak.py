"""Whether anything grows: a million small requests through one worker, a handler that computes nothing.

Requests carry 4x4 cells; 64 are in flight at any time. After each tenth: what the worker holds, what the server holds,
how long answers took. The first tenth fills what is to be full. What is remembered of a request is kept for seconds
instead of an hour after its deadline, so that forgetting is under way all the time. At work the server holds what the
last seconds asked, more of it where they were faster: so whether it grows is told at rest, all forgotten that is to be,
after the first tenth and after the last. ``--count`` gives another number.
"""

from __future__ import annotations

import asyncio
import gc
import statistics
import time
from datetime import UTC, datetime, timedelta
from typing import NamedTuple

import numpy as np
from redis.asyncio import Redis

from benchmarks.latency import ACCOUNT, AT_ONCE, serve, worker
from benchmarks.process_tree import pss_kb
from benchmarks.traffic import FIELD
from benchmarks.verdict import BrokenError, Figure
from nvp_agentkit.messages import PredictionAbstained, PredictionRequested, new_event
from nvp_agentkit.messages.envelope import TYPE_OF
from nvp_agentkit.settings import Settings
from nvp_agentkit.streams import ReplyReader, claims, completion, publish

COUNT, QUICK_COUNT, PARTS = 1_000_000, 5_000, 10
KEPT_S, ANSWER_S = 15, 15.0
REST_S, STILL = 120, 5  # at most until a server at rest forgets nothing more; so many seconds the same keys
GROWTH, SLOWER = 1.05, 1.25
MB = 1024.0


class Part(NamedTuple):
    """A tenth of the requests, and what there was after it."""

    hz: float
    p99_ms: float
    worker_mb: float
    server_mb: float


class Rest(NamedTuple):
    """What the server holds when nothing is asked and what had a time to live is gone."""

    keys: int
    server_mb: float


def measure(*, quick: bool, count: int | None = None) -> dict[str, Figure]:
    """Quick: 5,000 requests, held to nothing."""
    gc.freeze()
    count = QUICK_COUNT if quick else count or COUNT
    parts, (rested, rests) = asyncio.run(_parts(count // PARTS))
    begun, ended = parts[1:4], parts[-3:]

    def growth(what: str) -> float:
        first, last = ([float(getattr(one, what)) for one in some] for some in (begun, ended))
        return round(statistics.median(last) / statistics.median(first), 3)

    def bound(least: float) -> float | None:
        return None if quick else least

    figures = {
        "requests": Figure(count, "of them", goal=COUNT, higher_is_better=True),
        "worker_growth": Figure(growth("worker_mb"), "times", bound(GROWTH)),
        "server_growth": Figure(round(rests.server_mb / rested.server_mb, 3), "times", bound(GROWTH)),
        "keys_growth": Figure(rests.keys - rested.keys, "keys", bound(0)),
        "p99_growth": Figure(growth("p99_ms"), "times", bound(SLOWER)),
    }
    for when, rest in (("first", rested), ("last", rests)):
        figures |= {
            f"at_rest/{when}/keys": Figure(rest.keys, "keys"),
            f"at_rest/{when}/server": Figure(round(rest.server_mb, 2), "MB"),
        }
    for place, one in enumerate(parts):
        figures |= {
            f"tenth_{place}/rate": Figure(round(one.hz), "Hz", higher_is_better=True),
            f"tenth_{place}/p99": Figure(round(one.p99_ms, 2), "ms"),
            f"tenth_{place}/worker": Figure(round(one.worker_mb, 1), "MB PSS"),
            f"tenth_{place}/server": Figure(round(one.server_mb, 1), "MB"),
        }
    return figures


async def _parts(each: int) -> tuple[list[Part], tuple[Rest, Rest]]:
    """Each tenth, and the server at rest after the first and the last."""
    async with worker("everysec", _serve) as (redis, pid), ReplyReader(redis, ACCOUNT) as replies:
        parts = [await _part(redis, replies, pid, each)]
        rested = await _rest(redis)
        parts += [await _part(redis, replies, pid, each) for _ in range(PARTS - 1)]
        return parts, (rested, await _rest(redis))


async def _part(redis: Redis, replies: ReplyReader, pid: int, count: int) -> Part:
    delays_s: list[float] = []
    left = iter(range(count))

    async def ask() -> None:
        for _ in left:
            began = time.perf_counter()
            await _ask(redis, replies)
            delays_s.append(time.perf_counter() - began)

    began = time.perf_counter()
    await asyncio.gather(*[ask() for _ in range(AT_ONCE)])
    took_s = time.perf_counter() - began
    held = pss_kb(pid)
    if held is None:
        raise BrokenError("the worker's memory cannot be read here")
    return Part(count / took_s, 1000 * float(np.percentile(delays_s, 99)), held / MB, await _server_mb(redis))


async def _rest(redis: Redis) -> Rest:
    await asyncio.sleep(ANSWER_S + KEPT_S)  # nothing that the last request left lives longer
    counted: list[int] = []
    while len(counted) < STILL or len(set(counted[-STILL:])) > 1:
        if len(counted) > REST_S:
            raise BrokenError(f"after {REST_S} s at rest the server still forgets: it holds {counted[-STILL:]} keys")
        await asyncio.sleep(1)
        counted.append(await redis.dbsize())
    return Rest(counted[-1], await _server_mb(redis))


async def _server_mb(redis: Redis) -> float:
    return float((await redis.info("memory"))["used_memory"]) / MB**2


async def _ask(redis: Redis, replies: ReplyReader) -> None:
    deadline = datetime.now(UTC) + timedelta(seconds=ANSWER_S)
    payload = PredictionRequested(domain="plasma_physics", field=FIELD)
    event = new_event(payload, source="nvp:client:bench", deadline=deadline, budget_mj=5000)
    await publish(redis, ACCOUNT, "predict", event)
    await replies.wait(event.id, [TYPE_OF[PredictionAbstained]], timeout_s=ANSWER_S)


def _serve(settings: Settings) -> None:
    """The worker's process, which forgets sooner than the product does."""
    vars(claims)["REPLY_TTL_S"] = KEPT_S
    completion.settle.__kwdefaults__ = {"reply_ttl_s": KEPT_S}
    serve(settings)
