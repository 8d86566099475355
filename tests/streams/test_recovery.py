"""The stream server goes away, forgets, or we are told to stop."""

from __future__ import annotations

import asyncio

import pytest
from redis._parsers.base import BaseParser
from redis.exceptions import ResponseError

from nvp_agentkit.embedded import valkey as embedded_valkey
from nvp_agentkit.settings import Settings
from nvp_agentkit.streams import AWAY, connect, names, one_by_one, register


async def test_a_stream_deleted_under_a_running_worker_is_made_anew(bench):
    consumer = bench.start()
    await bench.reply(await bench.ask())
    await bench.redis.delete(bench.stream)
    event = await bench.ask()  # makes the stream without its groups: NOGROUP
    await bench.reply(event)
    assert consumer.counts["recovered"] >= 1
    await bench.eventually(lambda: asyncio.sleep(0, consumer.state == "ready"))


async def test_a_server_whose_disk_is_full_is_away_and_not_a_wrong_question(redis):
    """`MISCONF` is what Redis says to every write then, and redis-py has no class for it."""
    with pytest.raises(AWAY, match="No space left"):
        await redis.eval("return redis.error_reply('MISCONF Errors writing to the AOF file: No space left')", 0)


@pytest.mark.parametrize(
    ("said", "means"),
    [
        ("ERR Error running script (call to f_0a): @user_script:7: @user_script: 7: -OOM command not allowed", AWAY),
        ("@user_script: 95: -READONLY You can't write against a read only replica.", AWAY),
        ("ERR Error running script (call to f_0a): @user_script:7: -MISCONF Errors writing to the AOF file", AWAY),
        ("ERR Error running script (call to f_0a): @user_script:1: user_script:1: attempt to index a nil value", None),
        ("ERR Error running script (call to f_0a): @user_script:7: NOGROUP No such key", None),
    ],
)
def test_what_a_script_of_redis_6_2_met_means_what_it_means_outside(said, means):
    error = BaseParser.parse_error(said)
    assert isinstance(error, means or ResponseError)
    assert isinstance(error, AWAY) == (means is AWAY)
    assert str(error) in said


async def test_a_lost_group_is_made_anew_with_the_groups_of_its_neighbours(bench):
    stream = names.key(bench.account, "ensemble")
    bench.start(kind="ensemble", group="voter-1")
    await bench.eventually(bench.blocked)
    await bench.redis.delete(stream)
    await bench.redis.xadd(stream, {"event": bench.request().encode()})
    groups = sorted(names.GROUPS["ensemble"])

    async def made() -> bool:
        return [group["name"].decode() for group in await bench.redis.xinfo_groups(stream)] == groups

    assert await bench.eventually(made)


async def test_an_account_whose_key_is_no_stream_does_not_stop_the_others(bench):
    broken = f"{bench.account}-broken"
    await bench.redis.set(names.key(broken, "predict"), "no stream")
    await bench.redis.hset(names.ACCOUNTS, broken, "{}")
    try:
        bench.start()
        await bench.reply(await bench.ask())
    finally:
        await bench.redis.hdel(names.ACCOUNTS, broken)
        await bench.redis.delete(names.key(broken, "predict"))


@pytest.fixture
async def own_server(bench, tmp_path):
    """A server that may be flushed and killed, for `bench` to work on; returns the way to start it again."""
    running = [await embedded_valkey.start(tmp_path, appendfsync="always")]
    port = running[0].port

    async def restart() -> None:
        running.append(await embedded_valkey.start(tmp_path, port=port, appendfsync="always"))

    shared, bench.redis = bench.redis, await connect(Settings(redis_url=embedded_valkey.url(running[0])))
    await register(bench.redis, bench.account, owner="tests")
    yield running, restart
    for stop, _ in bench.stops:
        stop.set()
    await asyncio.gather(*(task for _, task in bench.stops))
    await bench.redis.aclose()
    bench.redis = shared
    await running[-1].stop()


async def test_a_flushed_server_is_served_again_as_soon_as_the_account_is_back(bench, own_server):
    bench.start()
    await bench.reply(await bench.ask())
    await bench.redis.flushall()
    await register(bench.redis, bench.account, owner="tests")
    await bench.reply(await bench.ask())


async def test_a_worker_reconnects_and_says_meanwhile_that_it_is_not_ready(bench, own_server):
    running, restart = own_server
    consumer = bench.start()
    await bench.reply(await bench.ask())
    await running[0].stop()
    await bench.eventually(lambda: asyncio.sleep(0, "recovering" in consumer.detail))
    assert consumer.state == "starting"
    await restart()
    await bench.reply(await bench.ask())
    assert consumer.state == "ready"


async def test_a_completion_outlives_the_server_s_absence_and_the_work_is_not_run_again(bench, own_server):
    running, restart = own_server
    runs = []

    async def handle(delivery):
        runs.append(delivery.attempt)
        await running[0].stop()
        return bench.answered(delivery)

    consumer = bench.each(handle)
    event = await bench.ask()
    await bench.eventually(lambda: asyncio.sleep(0, "recovering" in consumer.detail))
    await restart()
    await bench.reply(event)
    assert runs == [1]


async def test_drain_finishes_what_runs_and_hands_back_the_rest(bench):
    running, release = asyncio.Event(), asyncio.Event()

    async def handle(delivery):
        running.set()
        await release.wait()
        return bench.answered(delivery)

    first = await bench.ask()
    consumer = bench.consumer(one_by_one(handle))
    stop = bench.run(consumer)
    await asyncio.wait_for(running.wait(), 10)
    second = await bench.ask()
    stop.set()
    await bench.eventually(lambda: asyncio.sleep(0, consumer.state == "draining"))
    release.set()
    await bench.reply(first)
    await bench.stops[-1][1]
    names_left = [one["name"] for one in await bench.redis.xinfo_consumers(bench.stream, "inference")]
    assert names_left == []
    bench.start()
    await bench.reply(second)


async def test_work_that_outlasts_the_drain_is_cut_and_handed_back_uncounted(bench):
    running = asyncio.Event()
    attempts = []

    async def endless(delivery):
        running.set()
        await asyncio.sleep(3600)

    async def handle(delivery):
        attempts.append(delivery.attempt)
        return bench.answered(delivery)

    stop = bench.run(bench.consumer(one_by_one(endless), drain_timeout_s=0.2, lease_s=15.0))
    event = await bench.ask()
    await asyncio.wait_for(running.wait(), 10)
    stop.set()
    await asyncio.wait_for(bench.stops[-1][1], 5)
    bench.each(handle, lease_s=15.0)  # a lease of 15 s, and yet the message comes at once
    await asyncio.wait_for(bench.reply(event), 5)
    assert attempts == [1]
