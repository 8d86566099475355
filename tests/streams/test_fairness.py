"""Many accounts, many workers, bounded hands."""

from __future__ import annotations

import asyncio

import pytest

from nvp_agentkit.streams import names, publish, register
from nvp_agentkit.streams.intake import Intake


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


@pytest.fixture
async def crowd(bench):
    """A hundred accounts that ask nothing."""
    crowd = [f"{bench.account}-{number}" for number in range(100)]
    await bench.redis.hset(names.ACCOUNTS, mapping=dict.fromkeys(crowd, "{}"))
    yield crowd
    await bench.redis.hdel(names.ACCOUNTS, *crowd)
    await bench.redis.delete(*(names.key(one, kind) for one in crowd for kind in ("jobs", "urgent")))


async def test_a_look_is_as_many_round_trips_however_many_accounts_there_are(bench, crowd, round_trips):
    intake = Intake(bench.redis, kinds=("urgent", "jobs"), group="training", consumer="one", lease_s=0.4)
    assert await intake.take(1, 0.001) == []  # makes their groups
    for account in (crowd[70], crowd[20]):
        await publish(bench.redis, account, "jobs", bench.request())
    round_trips.clear()
    found = [await intake.take(1, 0.001) for _ in range(2)]
    assert sorted(entry.account for (entry,) in found) == sorted((crowd[20], crowd[70]))
    assert await intake.take(1, 0.001) == []
    assert round_trips["sent"] <= 8  # with functions that the server has to be told, and a wait

    other = Intake(bench.redis, kinds=("urgent", "jobs"), group="training", consumer="two", lease_s=0.4)
    assert await other.take(1, 0) == []
    for account in (crowd[70], crowd[20]):
        await bench.silent(account, 1, 0.4, kind="jobs", group="training")
    round_trips.clear()
    assert len(await other.take(2, 0)) == 2
    assert round_trips["sent"] == 1


async def test_an_account_with_many_jobs_does_not_starve_another_while_there_are_urgent_ones(bench, quiet):
    served = []

    async def handle(delivery):
        served.append(delivery.account)
        return bench.answered(delivery)

    for _ in range(12):
        await publish(bench.redis, bench.account, "urgent", bench.request())
        await publish(bench.redis, bench.account, "jobs", bench.request())
    event = bench.request()
    await publish(bench.redis, quiet, "jobs", event)
    bench.each(handle, kind="jobs", before="urgent", group="training", batch=1)
    await bench.reply(event, account=quiet)
    assert served.index(quiet) < 8  # the second turn of what is not urgent, at the latest


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


async def test_what_is_taken_alone_does_not_wait_behind_the_retries_of_others(bench, quiet):
    async def gave_up(account: str, deliveries: int) -> None:
        """One message more of an account whose worker took it and fell silent, and had ``deliveries`` by then."""
        stream = names.key(account, "predict")
        await publish(bench.redis, account, "predict", bench.request())
        await bench.redis.xreadgroup("inference", "crashed", {stream: ">"})
        last = (await bench.redis.xinfo_groups(stream))[0]["last-delivered-id"]
        await bench.redis.xclaim(stream, "inference", "crashed", 0, [last], idle=60_000, retrycount=deliveries)

    await gave_up(quiet, 2)
    intake = Intake(bench.redis, kinds=("predict",), group="inference", consumer="one", lease_s=30.0)
    taken = []
    for _ in range(6):
        await gave_up(bench.account, 1)  # at each look the other account has something, too
        taken.append([entry.account for entry in await intake.take(8, 0)])
    assert [quiet] in taken, taken


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
