"""Many accounts, many workers, bounded hands."""

from __future__ import annotations

import asyncio

import pytest

from nvp_agentkit.streams import names, register


@pytest.fixture
async def quiet(bench):
    """A second account, which asks little."""
    name = f"{bench.account}-q"
    await register(bench.redis, name, owner="tests")
    yield name
    await bench.redis.hdel(names.ACCOUNTS, name)
    await bench.redis.delete(*[key async for key in bench.redis.scan_iter(match=f"nvp:{{{name}}}:*")])


@pytest.mark.parametrize("batch", [1, 8])
async def test_an_account_that_floods_delays_another_by_two_batches_at_most(bench, quiet, batch):
    batches = []
    at_work, go_on = asyncio.Event(), asyncio.Event()

    async def handle(deliveries):
        batches.append({delivery.account for delivery in deliveries})
        if len(batches) == 5:
            at_work.set()
            await go_on.wait()
        return [bench.answered(delivery) for delivery in deliveries]

    pipe = bench.redis.pipeline(transaction=False)
    for _ in range(10_000):
        pipe.xadd(bench.stream, {"event": bench.request().encode()})
    await pipe.execute()
    bench.start(handle, batch=batch)
    await asyncio.wait_for(at_work.wait(), 20)
    event = await bench.ask(account=quiet)  # while the fifth batch is in hand
    go_on.set()
    await bench.reply(event, account=quiet)
    assert next(place for place, accounts in enumerate(batches) if quiet in accounts) <= 6  # the fifth is at place 4
    assert await bench.redis.xlen(bench.stream) > 9000


async def test_one_account_s_retries_do_not_starve_another_s_new_messages(bench, quiet):
    served = []

    async def handle(delivery):
        served.append(delivery.account)
        return bench.answered(delivery)

    for _ in range(50):
        await bench.ask()
    await bench.redis.xreadgroup("inference", "crashed", {bench.stream: ">"})
    event = await bench.ask(account=quiet)
    await bench.silent(bench.account, 50, 0.04)
    bench.each(handle, lease_s=0.04)  # the fifty are all due to be taken over
    await bench.reply(event, account=quiet)
    assert served.index(quiet) <= 2


async def test_messages_to_be_taken_over_come_account_by_account(bench, quiet):
    served = []

    async def handle(delivery):
        served.append(delivery.account)
        return bench.answered(delivery)

    for _ in range(50):
        await bench.ask()
    event = await bench.ask(account=quiet)
    for account in (bench.account, quiet):
        await bench.redis.xreadgroup("inference", "crashed", {names.key(account, "predict"): ">"})
    await bench.silent(bench.account, 50, 0.04)
    await bench.silent(quiet, 1, 0.04)
    bench.each(handle, lease_s=0.04)
    await bench.reply(event, account=quiet)
    assert served.index(quiet) <= 2


async def test_a_worker_never_takes_more_than_it_can_work_on(bench, quiet):
    gate = asyncio.Event()

    async def slow(delivery):
        await gate.wait()
        return bench.answered(delivery)

    for _ in range(3):
        await bench.ask()
        await bench.ask(account=quiet)
    bench.each(slow, batch=1)

    async def held() -> int:
        other = await bench.redis.xpending(names.key(quiet, "predict"), "inference")
        return await bench.pending() + int(other["pending"])

    assert await bench.eventually(held) == 1
    gate.set()


async def test_what_a_read_brings_beyond_the_batch_goes_back_uncounted(bench, quiet):
    attempts = []

    async def handle(delivery):
        attempts.append(delivery.attempt)
        return bench.answered(delivery)

    # An idle worker blocks on all streams with room for one message: a transaction fills two at the same moment.
    bench.each(handle, batch=1)
    await bench.eventually(bench.blocked)
    events = [bench.request(), bench.request()]
    pipe = bench.redis.pipeline(transaction=True)
    pipe.xadd(bench.stream, {"event": events[0].encode()})
    pipe.xadd(names.key(quiet, "predict"), {"event": events[1].encode()})
    await pipe.execute()
    await bench.reply(events[0])
    await bench.reply(events[1], account=quiet)
    assert attempts == [1, 1]


async def test_a_batch_fills_up_from_the_one_account_that_has_work(bench, quiet):
    sizes = []

    async def handle(deliveries):
        sizes.append(len(deliveries))
        return [bench.answered(delivery) for delivery in deliveries]

    for _ in range(8):
        await bench.ask()
    bench.start(handle, batch=8)
    await bench.eventually(bench.idle)
    assert sizes == [8]


async def test_an_account_registered_later_is_served(bench):
    await bench.redis.hdel(names.ACCOUNTS, bench.account)
    consumer = bench.start()
    await bench.eventually(lambda: asyncio.sleep(0, consumer.state == "ready"))  # it has looked, and found nobody
    await register(bench.redis, bench.account, owner="tests")
    await bench.reply(await bench.ask())


async def test_two_workers_share_the_work_and_nothing_is_done_twice(bench):
    done = []

    async def handle(delivery):
        done.append(delivery.request_id)
        await asyncio.sleep(0.002)
        return bench.answered(delivery)

    events = [await bench.ask() for _ in range(60)]
    workers = [bench.each(handle, batch=4, name=f"worker-{n}") for n in range(2)]
    await bench.eventually(bench.idle)
    assert sorted(done) == sorted(event.id for event in events)
    assert all(worker.counts["done"] for worker in workers)
