"""How fast the consumer is, beside the loops that one would write by hand over the same client.

20,000 requests of real size wait in one stream of an embedded server (its log flushed every second); a no-op handler
works on them in batches of 100. ``raw``, over redis-py as it comes: read, the same validation, acknowledge.
``raw_effects``: the same, and each message's reply and fact in a pipelined transaction. Contestants take turns; ratios
are of neighbours, medians of the rounds. What ours does beside: leases, fence, one claim for an id, retries, dead
letters, fair turns, trimming. ``ours_unclaimed`` is without the claims. Beside the rates: what a message took of the
client's CPU and of the server's. Then FastStream, Taskiq, arq and docket at the same validation, reply and fact, each
with its own queue and guarantees, at fewer messages and in an environment of their own.
"""

from __future__ import annotations

import asyncio
import gc
import statistics
import tempfile
import time
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from redis.asyncio import Redis

from benchmarks import frameworks
from benchmarks.traffic import fact, reply, request
from benchmarks.verdict import BrokenError, Figure
from nvp_agentkit.embedded import children, valkey
from nvp_agentkit.errors import NvpError
from nvp_agentkit.messages import Event, PredictionRequested, decode
from nvp_agentkit.settings import Settings
from nvp_agentkit.streams import Completion, Consumer, Delivery, connect, names, register

EVENTS, QUICK_EVENTS, ROUNDS = 20_000, 2_000, 5
FRAMEWORK_EVENTS = 2_000  # some do hundreds a second
TRIES = 3  # Taskiq does not always come to its end
BATCH = 100
ACCOUNT, GROUP = "bench", "inference"
STREAM = names.key(ACCOUNT, "predict")
Work = Callable[[Redis, int], Awaitable[None]]


class Measured(NamedTuple):
    """Messages a second, and CPU a message in microseconds: the client's and the server's."""

    hz: float
    client_us: float
    server_us: float


def measure(*, quick: bool) -> dict[str, Figure]:
    """Quick: a tenth of the messages, two rounds, no frameworks."""
    gc.freeze()  # as workers do
    with tempfile.TemporaryDirectory(prefix="nvp-consumer-") as folder:
        events, rounds = (QUICK_EVENTS, 2) if quick else (EVENTS, ROUNDS)
        rates = asyncio.run(_rounds(Path(folder), events, rounds))
        rivals = {} if quick else asyncio.run(_frameworks(Path(folder)))

    def ratio(ours: str, theirs: str) -> float:
        return round(statistics.median(a.hz / b.hz for a, b in zip(rates[ours], rates[theirs], strict=True)), 3)

    told = {
        name: Figure(round(statistics.median(one.hz for one in each)), "msg/s", higher_is_better=True)
        for name, each in rates.items()
    }
    for name, each in rates.items():
        told[f"{name}_client"] = Figure(round(statistics.median(one.client_us for one in each), 1), "us/msg")
        told[f"{name}_server"] = Figure(round(statistics.median(one.server_us for one in each), 1), "us/msg")
    for name, worked in rivals.items():
        told[name] = Figure(worked and round(worked.hz), "msg/s", higher_is_better=True)
        told[f"{name}_client"] = Figure(worked and round(worked.client_us, 1), "us/msg")
    if done := [worked.hz for worked in rivals.values() if worked]:
        fastest = max(done)
        over = round(statistics.median(one.hz for one in rates["ours_effects"]) / fastest, 2)
        told["effects_over_fastest_framework"] = Figure(over, "times", 1.0, 2.0, higher_is_better=True)
    return told | {
        "ours_over_raw": Figure(ratio("ours", "raw"), "times", None if quick else 0.8, 0.95, True),
        "effects_over_raw_effects": Figure(
            ratio("ours_effects", "raw_effects"), "times", None if quick else 1.0, 1.3, True
        ),
    }


async def _rounds(folder: Path, events: int, rounds: int) -> dict[str, list[Measured]]:
    """What each contestant does, round by round."""
    rates: dict[str, list[Measured]] = {name: [] for name in CONTESTANTS}
    server = await valkey.start(folder, appendfsync="everysec")
    try:
        url = valkey.url(server)
        async with (
            Redis.from_url(url, socket_timeout=None) as plain,  # redis-py as it comes
            await connect(Settings(redis_url=url)) as product,
        ):
            await register(plain, ACCOUNT, owner="benchmarks")
            for _ in range(rounds):
                for name, work in CONTESTANTS.items():
                    rates[name].append(await _rate(product if name.startswith("ours") else plain, work, events))
    finally:
        await children.end(server.process, grace_s=0)
    return rates


async def _frameworks(folder: Path) -> dict[str, frameworks.Worked | None]:
    """What each makes of the same work, on a server like ours, emptied between them."""
    worked: dict[str, frameworks.Worked | None] = {}
    server = await valkey.start(folder, appendfsync="everysec")
    try:
        url = valkey.url(server)
        async with Redis.from_url(url) as redis:
            for name in frameworks.NAMES:
                for _ in range(TRIES):
                    worked[name] = await asyncio.to_thread(frameworks.work, name, url, FRAMEWORK_EVENTS)
                    await redis.flushall()
                    if worked[name]:
                        break
    finally:
        await children.end(server.process, grace_s=0)
    return worked


async def _rate(redis: Redis, work: Work, events: int) -> Measured:
    """Fill the stream, see what ``work`` takes to empty it, and leave nothing behind."""
    await redis.delete(*[key async for key in redis.scan_iter(match=names.key(ACCOUNT, "*"), count=1000)])
    await redis.xgroup_create(STREAM, GROUP, id="0", mkstream=True)
    pipe = redis.pipeline(transaction=False)
    for _ in range(events):
        pipe.xadd(STREAM, {"event": request().encode()})
    await pipe.execute()
    server_s, client_s, began = await _cpu_s(redis), time.process_time(), time.perf_counter()
    await work(redis, events)
    took_s, client_s = time.perf_counter() - began, time.process_time() - client_s
    server_s = await _cpu_s(redis) - server_s
    if left := (await redis.xpending(STREAM, GROUP))["pending"]:
        raise BrokenError(f"{left} messages were left pending")
    return Measured(events / took_s, 1e6 * client_s / events, 1e6 * server_s / events)


async def _cpu_s(redis: Redis) -> float:
    used = await redis.info("cpu")
    return float(used["used_cpu_user"] + used["used_cpu_sys"])


async def _raw(redis: Redis, events: int) -> None:
    while events:
        read = await _read_valid(redis)
        await redis.xack(STREAM, GROUP, *read)
        events -= len(read)


async def _raw_effects(redis: Redis, events: int) -> None:
    while events:
        read = await _read_valid(redis)
        pipe = redis.pipeline(transaction=True)
        for event in read.values():
            pipe.xadd(names.replies(ACCOUNT), {"event": reply(event).encode(), "replyto": event.id})
            pipe.xadd(names.key(ACCOUNT, "lineage"), {"event": fact(event).encode()})
        pipe.xack(STREAM, GROUP, *read)
        await pipe.execute()
        events -= len(read)


async def _read_valid(redis: Redis) -> dict[bytes, Event]:
    """A batch by its entries' ids, envelope and body of each validated."""
    found: Any = await redis.xreadgroup(GROUP, "raw", {STREAM: ">"}, count=BATCH, block=1000)
    ((_, entries),) = found
    read = {entry_id: decode(fields[b"event"]) for entry_id, fields in entries}
    for event in read.values():
        assert isinstance(event.payload, PredictionRequested)
    return read


async def _ours(redis: Redis, events: int) -> None:
    await _consume(redis, events, lambda delivery: Completion())


async def _ours_unclaimed(redis: Redis, events: int) -> None:
    await _consume(redis, events, lambda delivery: Completion(), unique=False)


async def consume_with_effects(redis: Redis, events: int) -> None:
    """Let our consumer answer and record ``events`` requests, of whatever accounts."""
    await _consume(
        redis,
        events,
        lambda delivery: Completion(replies=(reply(delivery.event),), facts=(fact(delivery.event),)),
    )


async def _consume(redis: Redis, events: int, answer: Callable[[Delivery], Completion], *, unique: bool = True) -> None:
    stop = asyncio.Event()

    async def handle(deliveries: list[Delivery]) -> Sequence[Completion]:
        nonlocal events
        events -= len(deliveries)
        if events <= 0:
            stop.set()
        return [answer(delivery) for delivery in deliveries]

    consumer = Consumer(
        redis, kind="predict", group=GROUP, name="ours", handle=handle, refuse=_no_refusal,
        accepts=(PredictionRequested,), unique=unique, batch=BATCH,
    )  # fmt: skip
    await consumer.run(stop)


def _no_refusal(delivery: Delivery, error: NvpError) -> Completion:
    raise BrokenError(f"{delivery.request_id} was refused: {error}")


CONTESTANTS: dict[str, Work] = {
    "raw": _raw,
    "ours": _ours,
    "ours_unclaimed": _ours_unclaimed,
    "raw_effects": _raw_effects,
    "ours_effects": consume_with_effects,
}
