"""From publishing a request to holding its answer: a worker in a process of its own, a handler that computes nothing.

Requests carry 64x64 cells inline and wait for no joules; the embedded server flushes its log every second, and beside
it with every write. 50 a second come at their times whether earlier ones are answered or not, and so do 70% of what
the worker can do; each is timed from when it was due.
"""

from __future__ import annotations

import asyncio
import gc
import multiprocessing
import tempfile
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Literal

import numpy as np
from redis.asyncio import Redis

from benchmarks.verdict import BrokenError, Figure
from nvp_agentkit.artifacts import inline_array
from nvp_agentkit.embedded import children, valkey
from nvp_agentkit.errors import NvpError
from nvp_agentkit.messages import Event, PredictionAbstained, PredictionRequested, new_event
from nvp_agentkit.messages.envelope import TYPE_OF
from nvp_agentkit.settings import Settings
from nvp_agentkit.streams import Completion, Consumer, Delivery, ReplyReader, connect, publish, register

ACCOUNT, SIDE = "bench", 64
SLOWLY_HZ, SECONDS, QUICK_SECONDS = 50.0, 20.0, 3.0
AT_ONCE, LOAD = 64, 0.7
ANSWER_S = 30.0


def measure(*, quick: bool) -> dict[str, Figure]:
    """Quick: three seconds of each, and no server that flushes every write."""
    gc.freeze()
    seconds = QUICK_SECONDS if quick else SECONDS
    figures = asyncio.run(_measure("everysec", seconds, loaded=True, held=not quick))
    if not quick:
        figures |= asyncio.run(_measure("always", seconds, loaded=False, held=False))
    return figures


async def _measure(
    appendfsync: Literal["everysec", "always"], seconds: float, *, loaded: bool, held: bool
) -> dict[str, Figure]:
    async with worker(appendfsync) as (redis, _), ReplyReader(redis, ACCOUNT) as replies:
        await _ask_all(redis, replies, 200, at_once=AT_ONCE)  # connections are made, code is warm
        slow = await _paced(redis, replies, SLOWLY_HZ, seconds)
        told = {
            f"p50_{appendfsync}": Figure(_ms(slow, 50), "ms"),
            f"p99_{appendfsync}": Figure(_ms(slow, 99), "ms", 10.0 if held else None, 3.0),
        }
        if loaded:
            most_hz = await _ask_all(redis, replies, int(200 * seconds), at_once=AT_ONCE)
            busy = await _paced(redis, replies, LOAD * most_hz, seconds)
            told |= {
                "most": Figure(round(most_hz), "Hz", higher_is_better=True),
                "p50_at_70%": Figure(_ms(busy, 50), "ms"),
                "p99_at_70%": Figure(_ms(busy, 99), "ms"),
            }
        return told


def _ms(delays_s: list[float], percentile: float) -> float:
    return round(1000 * float(np.percentile(delays_s, percentile)), 2)


async def _ask_all(redis: Redis, replies: ReplyReader, count: int, *, at_once: int) -> float:
    """So many requests, a given number in flight: how many a second."""
    gate = asyncio.Semaphore(at_once)

    async def ask() -> None:
        async with gate:
            await _ask(redis, replies)

    began = time.perf_counter()
    async with asyncio.TaskGroup() as asking:
        for _ in range(count):
            asking.create_task(ask())
    return count / (time.perf_counter() - began)


async def _paced(redis: Redis, replies: ReplyReader, hz: float, seconds: float) -> list[float]:
    """Delays in seconds of requests that are due ``hz`` times a second."""
    delays_s: list[float] = []
    began = time.perf_counter()

    async def ask(due: float) -> None:
        await _ask(redis, replies)
        delays_s.append(time.perf_counter() - due)

    async with asyncio.TaskGroup() as asking:
        for k in range(int(hz * seconds)):
            due = began + k / hz
            await asyncio.sleep(max(due - time.perf_counter(), 0.0))
            asking.create_task(ask(due))
    return delays_s


async def _ask(redis: Redis, replies: ReplyReader) -> None:
    payload = PredictionRequested(domain="plasma_physics", field=FIELD)
    deadline = datetime.now(UTC) + timedelta(seconds=ANSWER_S)
    event = new_event(payload, source="nvp:client:bench", deadline=deadline, budget_mj=5000)
    await publish(redis, ACCOUNT, "predict", event)
    await replies.wait(event.id, [TYPE_OF[PredictionAbstained]], timeout_s=ANSWER_S)


FIELD = inline_array(np.random.default_rng(0).standard_normal((SIDE, SIDE)).astype(np.float32))


def serve(settings: Settings) -> None:
    """A worker's process: answers all, computes nothing."""

    async def run() -> None:
        async with await connect(settings) as redis:
            consumer = Consumer(
                redis, kind="predict", group="inference", name="worker", handle=_answer_all, refuse=_no_refusal,
                accepts=(PredictionRequested,), batch=16,
            )  # fmt: skip
            await consumer.run(asyncio.Event())

    gc.freeze()  # as workers do
    asyncio.run(run())


@asynccontextmanager
async def worker(
    appendfsync: Literal["everysec", "always"], work: Callable[[Settings], None] = serve
) -> AsyncIterator[tuple[Redis, int]]:
    """A server and one worker at it, both ended at the end: a connection, and the worker's process id."""
    with tempfile.TemporaryDirectory(prefix="nvp-latency-") as folder:
        server = await valkey.start(Path(folder), appendfsync=appendfsync)
        settings = Settings(redis_url=valkey.url(server))
        process = multiprocessing.get_context("spawn").Process(target=work, args=(settings,), daemon=True)
        try:
            async with await connect(settings) as redis:
                await register(redis, ACCOUNT, owner="benchmarks")
                process.start()
                assert process.pid is not None
                yield redis, process.pid
        finally:
            process.kill()
            process.join()
            await children.end(server.process, grace_s=0)


async def _answer_all(deliveries: list[Delivery]) -> list[Completion]:
    return [Completion(replies=(_answer(delivery),)) for delivery in deliveries]


def _answer(delivery: Delivery) -> Event:
    payload = PredictionAbstained(request_id=delivery.request_id, reason="nothing to say")
    return new_event(payload, source="worker", replyto=delivery.request_id)


def _no_refusal(delivery: Delivery, error: NvpError) -> Completion:
    raise BrokenError(f"{delivery.request_id} was refused: {error}")
