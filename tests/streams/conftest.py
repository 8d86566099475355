"""A place to work in: an account, requests to publish, consumers that are stopped at the end."""

from __future__ import annotations

import asyncio
import base64
import hashlib
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from redis.asyncio import Redis

from nvp_agentkit.errors import NvpError
from nvp_agentkit.messages import (
    ArrayRef,
    Event,
    PredictionAbstained,
    PredictionRefused,
    PredictionRequested,
    decode,
    new_event,
)
from nvp_agentkit.streams import Completion, Consumer, Delivery, dead_letters, names, one_by_one, publish, register

ANSWERED = "nvp.prediction.abstained.v1"
REFUSED = "nvp.prediction.refused.v1"
RAW = bytes(4 * 16)
FIELD = ArrayRef(
    shape=(4, 4), digest=f"sha256:{hashlib.sha256(RAW).hexdigest()}", inline=base64.b64encode(RAW).decode()
)


def request(*, within_s: float | None = 60.0) -> Event:
    deadline = None if within_s is None else datetime.now(UTC) + timedelta(seconds=within_s)
    payload = PredictionRequested(domain="plasma_physics", field=FIELD)
    return new_event(payload, source="agent", deadline=deadline, budget_mj=5000)


def answered(delivery: Delivery, text: str = "done") -> Completion:
    payload = PredictionAbstained(request_id=delivery.request_id, reason=text)
    return Completion(replies=(new_event(payload, source="worker", replyto=delivery.request_id),))


def refused(delivery: Delivery, error: NvpError) -> Completion:
    payload = PredictionRefused(request_id=delivery.request_id, code=error.code, detail=str(error))
    return Completion(replies=(new_event(payload, source="worker", replyto=delivery.request_id),))


async def answer_all(deliveries: list[Delivery]) -> list[Completion]:
    return [answered(delivery) for delivery in deliveries]


async def eventually(look: Callable[[], Awaitable[Any]], within_s: float = 20.0) -> Any:
    """The first true thing that ``look`` gives; fails when there is none in time."""
    async with asyncio.timeout(within_s):
        while not (seen := await look()):  # noqa: ASYNC110  what is waited for happens in Redis
            await asyncio.sleep(0.02)
    return seen


@dataclass
class Bench:
    """What the tests of a consumer do again and again."""

    redis: Redis
    account: str
    stops: list[tuple[asyncio.Event, asyncio.Task[None]]] = field(default_factory=list)

    request = staticmethod(request)
    answered = staticmethod(answered)
    refused = staticmethod(refused)
    eventually = staticmethod(eventually)

    @property
    def stream(self) -> str:
        return names.key(self.account, "predict")

    def consumer(self, handle: Any = answer_all, **options: Any) -> Consumer:
        given = {"kind": "predict", "group": "inference", "name": "worker", "refuse": refused, "lease_s": 2.0} | options
        return Consumer(self.redis, handle=handle, **given)

    def run(self, consumer: Consumer) -> asyncio.Event:
        stop = asyncio.Event()
        self.stops.append((stop, asyncio.create_task(consumer.run(stop))))
        return stop

    def start(self, handle: Any = answer_all, **options: Any) -> Consumer:
        consumer = self.consumer(handle, **options)
        self.run(consumer)
        return consumer

    def each(self, handle: Callable[[Delivery], Awaitable[Any]], **options: Any) -> Consumer:
        return self.start(one_by_one(handle), **options)

    async def ask(self, event: Event | None = None, account: str | None = None) -> Event:
        event = event or request()
        await publish(self.redis, account or self.account, "predict", event)
        return event

    async def reply(self, event: Event, kind: str = ANSWERED, account: str | None = None) -> Event:
        key = names.answers(account or self.account, event.id)
        return decode(await eventually(lambda: self.redis.hget(key, kind)))

    async def replies(self, event: Event) -> list[bytes]:
        entries = await self.redis.xrange(names.replies(self.account))
        return [fields[b"type"] for _, fields in entries if fields[b"replyto"] == event.id.encode()]

    async def dead(self) -> list[Any]:
        return await dead_letters(self.redis, self.account, "predict")

    async def pending(self) -> int:
        return int((await self.redis.xpending(self.stream, "inference"))["pending"])

    async def idle(self) -> bool:
        """Nothing waits and nothing is being worked on."""
        return await self.redis.xlen(self.stream) == 0

    async def blocked(self, command: str = "xreadgroup") -> int:
        """How many connections of this test wait at the server in such a read."""
        ours = self.redis.connection_pool.connection_kwargs["client_name"]
        everyone = await self.redis.client_list()
        return sum("b" in one["flags"] and (one["name"], one["cmd"]) == (ours, command) for one in everyone)

    async def silent(
        self, account: str, count: int, lease_s: float, *, kind: str = "predict", group: str = "inference"
    ) -> None:
        """Wait until ``count`` messages of an account have been in somebody's hands for longer than a lease."""

        async def due() -> bool:
            stream, idle_ms = names.key(account, kind), int(1000 * lease_s)
            found = await self.redis.xpending_range(stream, group, "-", "+", count, idle=idle_ms)
            return len(found) == count

        await eventually(due)


@pytest.fixture
async def bench(redis: Redis, account: str) -> AsyncIterator[Bench]:
    await register(redis, account, owner="tests")
    bench = Bench(redis, account)
    yield bench
    for stop, _ in bench.stops:
        stop.set()
    await asyncio.gather(*(task for _, task in bench.stops))


@pytest.fixture
def bench_at() -> Callable[[Redis, str], Bench]:
    """A `Bench` on any server, for an account that is there; its consumers are the test's to stop."""
    return Bench


@pytest.fixture
def make_request() -> Callable[[], Event]:
    """Makes a valid request, a new one at each call."""
    return request
