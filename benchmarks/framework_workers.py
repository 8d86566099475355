"""The same work under a task framework: ``python -m benchmarks.framework_workers NAME URL EVENTS`` in `frameworks`' own
environment.

Requests are published as the framework does that, then its worker empties the queue. Its handler is given the event's
text, validates it as ours does and writes reply and fact in one transaction; whatever else the framework does, it does.
Prints one JSON object: messages a second, CPU of the client in microseconds a message.
"""

from __future__ import annotations

import asyncio
import json
import logging
import sys
import time
from collections.abc import Awaitable, Callable
from typing import Any

from redis.asyncio import Redis

from benchmarks.traffic import fact, reply, request
from nvp_agentkit.messages import PredictionRequested, decode
from nvp_agentkit.streams import names

ACCOUNT, AT_ONCE = "bench", 100


class Work:
    """What is done of each message, and when all are."""

    def __init__(self, redis: Redis, events: int) -> None:
        self._redis, self._left = redis, events
        self.done = asyncio.Event()

    async def answer(self, *texts: bytes) -> None:
        """Validate each, then reply to all and record them in one transaction."""
        pipe = self._redis.pipeline(transaction=True)
        for text in texts:
            event = decode(text)
            assert isinstance(event.payload, PredictionRequested)
            pipe.xadd(names.replies(ACCOUNT), {"event": reply(event).encode(), "replyto": event.id})
            pipe.xadd(names.key(ACCOUNT, "lineage"), {"event": fact(event).encode()})
        await pipe.execute()
        self._left -= len(texts)
        if self._left <= 0:
            self.done.set()


def text() -> str:
    """A request, for what serialises texts."""
    return request().encode().decode()


Emptying = Callable[[], Awaitable[object]]


async def faststream(url: str, work: Work, events: int) -> Emptying:
    """A subscriber of a group, acknowledged when its handler returns."""

    async def one(body: str) -> None:
        await work.answer(body.encode())

    return await _faststream(url, work, events, one, batch=False)


async def faststream_batch(url: str, work: Work, events: int) -> Emptying:
    """The same, up to a hundred to a handler, which gets them parsed as JSON whatever they were sent as."""

    async def many(body: list[dict[str, Any]]) -> None:
        await work.answer(*[json.dumps(each).encode() for each in body])

    return await _faststream(url, work, events, many, batch=True)


async def _faststream(
    url: str, work: Work, events: int, handler: Callable[..., Awaitable[None]], *, batch: bool
) -> Emptying:
    from faststream.redis import RedisBroker, StreamSub

    broker = RedisBroker(url, logger=None)
    await broker.connect()
    for _ in range(events):
        await broker.publish(text(), stream="work")
    redis = Redis.from_url(url)
    await redis.xgroup_create("work", "group", id="0")
    await redis.aclose()
    stream = StreamSub("work", group="group", consumer="one", batch=batch, max_records=AT_ONCE)
    broker.subscriber(stream=stream)(handler)

    async def empty() -> None:
        await broker.start()
        await work.done.wait()
        await broker.stop()

    return empty


async def taskiq(url: str, work: Work, events: int) -> Emptying:
    """A stream broker and its receiver."""
    from taskiq.receiver import Receiver
    from taskiq_redis import RedisStreamBroker

    broker = RedisStreamBroker(url, consumer_id="0")

    async def answer(body: str) -> None:
        await work.answer(body.encode())

    task = broker.register_task(answer, task_name="answer")
    await broker.startup()
    for _ in range(events):
        await task.kiq(text())
    receiver = Receiver(broker, max_async_tasks=AT_ONCE, max_prefetch=AT_ONCE, run_startup=False)

    async def empty() -> None:
        listening = asyncio.create_task(receiver.listen(work.done))
        await work.done.wait()
        listening.cancel()
        await asyncio.gather(listening, return_exceptions=True)

    return empty


async def arq(url: str, work: Work, events: int) -> Emptying:
    """A worker that ends when its queue is empty."""
    from arq.connections import RedisSettings, create_pool
    from arq.worker import Worker, func

    settings = RedisSettings.from_dsn(url)
    pool = await create_pool(settings)
    for _ in range(events):
        await pool.enqueue_job("answer", text())

    async def answer(context: dict[str, Any], body: str) -> None:
        await work.answer(body.encode())

    worker = Worker(
        functions=[func(answer, name="answer")], redis_pool=pool, burst=True, max_jobs=AT_ONCE, poll_delay=0.01,
        handle_signals=False,
    )  # fmt: skip

    async def empty() -> None:
        await worker.main()

    return empty


async def docket(url: str, work: Work, events: int) -> Emptying:
    """A worker that runs until nothing is left."""
    from docket import Docket, Worker

    async def answer(body: str) -> None:
        await work.answer(body.encode())

    mine = await Docket("work", url).__aenter__()
    mine.register(answer)
    for _ in range(events):
        await mine.add(answer)(text())
    worker = await Worker(mine, concurrency=AT_ONCE).__aenter__()

    async def empty() -> None:
        await worker.run_until_finished()

    return empty


FRAMEWORKS = {each.__name__: each for each in (faststream, faststream_batch, taskiq, arq, docket)}


async def run(name: str, url: str, events: int) -> dict[str, float]:
    """What it does, and that it was done."""
    url = f"{url}?max_connections={10 * AT_ONCE}"
    redis = Redis.from_url(url)
    work = Work(redis, events)
    empty = await FRAMEWORKS[name](url, work, events)
    began, used = time.perf_counter(), time.process_time()
    emptying = asyncio.ensure_future(empty())
    await work.done.wait()
    took_s, used_s = time.perf_counter() - began, time.process_time() - used
    await emptying
    await redis.aclose()
    return {"hz": events / took_s, "client_us": 1e6 * used_s / events}


if __name__ == "__main__":
    logging.disable(logging.WARNING)
    print(json.dumps(asyncio.run(run(sys.argv[1], sys.argv[2], int(sys.argv[3])))))
