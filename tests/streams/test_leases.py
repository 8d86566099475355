"""One holder at a time: leases, take-over, and the fence before every effect."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from datetime import UTC, datetime, timedelta

from nvp_agentkit.streams import Completion
from nvp_agentkit.streams.completion import Settlement, complete
from nvp_agentkit.streams.intake import Intake

LEASE_S = 0.4

WORKER = """
import asyncio, sys
from redis.asyncio import Redis
from nvp_agentkit.streams import Completion, Consumer

async def handle(deliveries):
    print("working", flush=True)
    await asyncio.sleep({work_s})
    return [Completion(fields=(("models", "frozen", "was here"),)) for _ in deliveries]

async def main():
    async with Redis.from_url(sys.argv[1], socket_timeout=None) as redis:
        consumer = Consumer(redis, kind="predict", group="inference", name="victim", handle=handle,
                            refuse=lambda delivery, error: Completion(), lease_s={lease_s})
        stop = asyncio.Event()
        running = asyncio.create_task(consumer.run(stop))
        while not consumer.counts:
            await asyncio.sleep(0.01)
        print(dict(consumer.counts), flush=True)
        stop.set()
        await running

asyncio.run(main())
"""


async def working(valkey: str, work_s: float) -> asyncio.subprocess.Process:
    """A worker in a process of its own, once it has begun to work on its first message."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", WORKER.format(work_s=work_s, lease_s=LEASE_S), valkey,
        stdout=asyncio.subprocess.PIPE,
    )  # fmt: skip
    async with asyncio.timeout(30):
        assert process.stdout is not None
        assert await process.stdout.readline() == b"working\n"
    return process


async def test_a_killed_worker_s_message_is_taken_over_within_a_few_leases(bench, valkey):
    event = await bench.ask()
    victim = await working(valkey, work_s=60)
    victim.kill()
    await victim.wait()
    attempts = []

    async def handle(delivery):
        attempts.append(delivery.attempt)
        return bench.answered(delivery)

    bench.each(handle, lease_s=LEASE_S)
    await bench.reply(event)
    assert attempts == [2]


async def test_a_worker_that_froze_and_woke_up_completes_nothing(bench, valkey):
    event = await bench.ask()
    frozen = await working(valkey, work_s=0.2)
    os.kill(frozen.pid, signal.SIGSTOP)
    try:
        bench.start(lease_s=LEASE_S)
        await bench.reply(event)
    finally:
        os.kill(frozen.pid, signal.SIGCONT)
    async with asyncio.timeout(20):
        assert await frozen.stdout.readline() == b"{'lost': 1}\n"
        await frozen.wait()
    assert await bench.redis.hget(f"nvp:{{{bench.account}}}:models", "frozen") is None
    assert len(await bench.replies(event)) == 1


async def test_only_the_holder_of_the_lease_can_complete(bench):
    await bench.ask()
    await bench.redis.xreadgroup("inference", "first", {bench.stream: ">"})
    ((entry_id, _),) = await bench.redis.xrange(bench.stream)
    await bench.redis.xclaim(bench.stream, "inference", "second", 0, [entry_id])
    done = Settlement(bench.account, bench.stream, entry_id.decode(), Completion(fields=(("models", "a", "b"),)))
    assert not await complete(bench.redis, done, group="inference", consumer="first")
    assert not await bench.redis.exists(f"nvp:{{{bench.account}}}:models")
    assert await bench.pending() == 1
    assert await complete(bench.redis, done, group="inference", consumer="second")
    assert not await complete(bench.redis, done, group="inference", consumer="second")


async def test_a_long_handler_keeps_its_lease(bench):
    attempts = []

    async def slow(delivery):
        attempts.append(delivery.attempt)
        await asyncio.sleep(4 * LEASE_S)
        return bench.answered(delivery)

    slow_one = bench.each(slow, lease_s=LEASE_S)
    bench.each(slow, lease_s=LEASE_S, name="rival")
    event = await bench.ask()
    await bench.reply(event)
    await bench.eventually(bench.idle)
    assert attempts == [1]
    assert slow_one.counts["lost"] == 0


async def test_a_handler_learns_that_its_lease_was_lost(bench):
    told = asyncio.Event()

    async def handle(delivery):
        await bench.redis.xclaim(bench.stream, "inference", "thief", 0, [delivery.entry_id])
        await asyncio.wait_for(delivery.lost.wait(), 10)
        told.set()
        return bench.answered(delivery)

    consumer = bench.each(handle, lease_s=LEASE_S)
    event = await bench.ask()
    await asyncio.wait_for(told.wait(), 10)
    await bench.eventually(lambda: asyncio.sleep(0, consumer.counts["lost"]))
    assert await bench.replies(event) == []


async def test_a_wedged_handler_is_not_renewed_past_the_deadline(bench):
    release = asyncio.Event()

    async def wedged(delivery):
        await release.wait()
        return bench.answered(delivery)

    bench.each(wedged, lease_s=LEASE_S)
    soon = datetime.now(UTC) + timedelta(seconds=2 * LEASE_S)
    event = await bench.ask(bench.request().model_copy(update={"deadline": soon}))
    await bench.eventually(bench.pending)
    bench.start(lease_s=LEASE_S, name="other")
    assert (await bench.reply(event, "nvp.prediction.refused.v1")).data["code"] == "deadline_exceeded"
    release.set()


async def test_what_outlived_two_workers_is_taken_alone(bench):
    for _ in range(3):
        await bench.ask()

    async def taken(worker: str) -> list[int]:
        """What the sweep of a worker brings that finds all others silent."""
        intake = Intake(bench.redis, kinds=("predict",), group="inference", consumer=worker, lease_s=0)
        return [entry.attempt for entry in await intake.take(8, 0.001)]

    assert await taken("first") == [1, 1, 1]
    assert await taken("second") == [2, 2, 2]
    assert [await taken(worker) for worker in ("third", "fourth")] == [[3], [4]]


async def test_the_tail_of_a_long_pending_list_is_taken_over_at_once(bench):
    """Where a sweep begins at the front and looks at so many, what others hold there hides it."""
    events = [await bench.ask() for _ in range(250)]
    taken = await bench.redis.xreadgroup("inference", "busy", {bench.stream: ">"})
    tail = taken[0][1][-1][0]
    await bench.redis.xclaim(bench.stream, "inference", "crashed", 0, [tail], idle=3_600_000, justid=True)
    bench.start(lease_s=600.0)
    await bench.reply(events[-1])
    assert await bench.pending() == 249


async def test_payload_deleted_under_a_pending_entry_is_put_on_record(bench):
    await bench.ask()
    await bench.redis.xreadgroup("inference", "gone", {bench.stream: ">"})
    ((entry_id, _),) = await bench.redis.xrange(bench.stream)
    await bench.redis.xdel(bench.stream, entry_id)
    await bench.silent(bench.account, 1, 0.04)
    bench.start(lease_s=0.04)
    (letter,) = await bench.eventually(bench.dead)
    assert letter.entry_id == entry_id.decode()
    assert "payload deleted while pending" in letter.reason
    assert await bench.pending() == 0
