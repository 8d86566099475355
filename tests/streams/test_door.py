"""The door: who has too much waiting is told so, and when to ask again; nobody else is."""

from __future__ import annotations

import asyncio

import pytest
from redis.asyncio import Redis

from nvp_agentkit.embedded import valkey as embedded_valkey
from nvp_agentkit.errors import AccountFull, NvpError, StoreUnavailable
from nvp_agentkit.settings import Settings
from nvp_agentkit.streams import Completion, Delivery, Door, connect, names
from nvp_agentkit.streams.health import keep_announcing
from tests.streams.conftest import ANSWERED, REFUSED


@pytest.fixture
def limits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("nvp_agentkit.streams.door.WAITING", 20)
    monkeypatch.setattr("nvp_agentkit.streams.door.FACTS", 3)


async def test_a_full_account_is_refused_with_the_number_the_limit_and_when_to_ask_again(bench, limits):
    door = Door(bench.redis, bench.account)
    for _ in range(20):
        await door.publish("predict", bench.request())
    with pytest.raises(AccountFull, match=r"20 entries wait on its stream 'predict', limit 20; ask again in 5 s") as no:
        await door.publish("predict", bench.request())
    assert (no.value.retry_after_s, no.value.retryable) == (5.0, False)
    assert await bench.redis.xlen(bench.stream) == 20
    with pytest.raises(AccountFull):  # another process of the account, which has published nothing yet
        await Door(bench.redis, bench.account).publish("predict", bench.request())
    await door.publish("jobs", bench.request())
    await Door(bench.redis, f"{bench.account}-other").publish("predict", bench.request())
    await bench.redis.delete(names.key(f"{bench.account}-other", "predict"))
    bench.start()
    await bench.eventually(bench.idle)
    event = bench.request()
    await door.publish("predict", event)
    await bench.reply(event)


async def test_a_flood_of_one_process_stops_at_the_limit(bench, limits, valkey):
    async with await connect(Settings(redis_url=valkey)) as redis:
        door = Door(redis, bench.account)
        told = await asyncio.gather(
            *(door.publish("predict", bench.request()) for _ in range(200)), return_exceptions=True
        )
    let_in = [one for one in told if isinstance(one, str)]
    assert 0 < len(let_in) == await bench.redis.xlen(bench.stream) <= 20
    assert {type(one) for one in told if not isinstance(one, str)} == {AccountFull}


async def test_an_account_whose_facts_wait_for_the_graph_asks_for_no_more(bench, limits):
    door, facts = Door(bench.redis, bench.account), names.key(bench.account, "lineage")
    for _ in range(3):
        await bench.redis.xadd(facts, {"event": "{}"})
    with pytest.raises(AccountFull, match=r"3 facts wait for the graph, limit 3; .*recorder"):
        await door.publish("predict", bench.request())
    await bench.redis.xtrim(facts, maxlen=0)
    await door.publish("predict", bench.request())


async def test_who_goes_past_the_door_is_refused_by_the_worker_beyond_its_limit(bench):
    events = [bench.request() for _ in range(30)]
    for event in events:
        await bench.redis.xadd(bench.stream, {"event": event.encode()})
    refusals: list[NvpError] = []

    def refuse(delivery: Delivery, error: NvpError) -> Completion:
        refusals.append(error)
        return bench.refused(delivery, error)

    bench.start(batch=4, most_waiting=10, refuse=refuse)
    await bench.eventually(bench.idle)
    told = [await bench.replies(event) for event in events]
    assert told == [[REFUSED.encode()]] * 20 + [[ANSWERED.encode()]] * 10
    assert {(type(one), one.retry_after_s) for one in refusals} == {(AccountFull, 5.0)}
    assert await bench.dead() == []


async def test_however_many_workers_refuse_what_is_among_the_newest_is_not_refused(bench):
    events, refused = [bench.request() for _ in range(60)], []
    for event in events:
        await bench.redis.xadd(bench.stream, {"event": event.encode()})

    def refuse(delivery: Delivery, error: NvpError) -> Completion:
        refused.append(delivery.request_id)
        return bench.refused(delivery, error)

    for number in range(3):
        bench.start(batch=4, most_waiting=10, refuse=refuse, name=f"worker-{number}")
    await bench.eventually(bench.idle)
    assert [await bench.replies(event) for event in events[-10:]] == [[ANSWERED.encode()]] * 10
    assert 0 < len(refused) <= 50


async def test_what_was_begun_once_is_not_refused_for_what_came_after_it(bench):
    begun = await bench.ask()
    await bench.redis.xreadgroup("inference", "crashed", {bench.stream: ">"})
    for _ in range(20):
        await bench.ask()
    await bench.silent(bench.account, 1, 0.4)
    bench.start(batch=4, most_waiting=10, lease_s=0.4)
    await bench.reply(begun)


async def test_where_others_read_the_stream_as_well_nobody_is_refused_for_what_they_have_not_read(bench):
    await bench.redis.xgroup_create(bench.stream, "others", id="0")
    for _ in range(20):
        await bench.ask()
    worker = bench.start(batch=4, most_waiting=10)
    await bench.eventually(lambda: asyncio.sleep(0, worker.counts["done"] == 20))
    assert len(await bench.redis.xrange(names.replies(bench.account))) == 20
    assert {f[b"type"] for _, f in await bench.redis.xrange(names.replies(bench.account))} == {ANSWERED.encode()}


async def test_short_of_memory_all_are_asked_to_come_again_before_the_server_refuses_its_workers(tmp_path, bench_at):
    server = await embedded_valkey.start(tmp_path / "own", appendfsync="no")
    said, stop = ["starting"], asyncio.Event()
    try:
        async with Redis.from_url(embedded_valkey.url(server)) as redis:
            bench, door = bench_at(redis, "full"), Door(redis, "full")
            await redis.setrange("filler", 20 * 2**20, "x")  # the server's own: no buffer that it frees later
            used = int((await redis.info("memory"))["used_memory"])
            await redis.config_set("maxmemory", int(1.2 * used))
            beating = asyncio.create_task(
                keep_announcing(redis, "inference", "here", "inference", lambda: (said[0], ""), stop)
            )
            await bench.eventually(lambda: redis.exists(names.SHORT))
            assert 0 < await redis.ttl(names.SHORT) <= 10
            with pytest.raises(StoreUnavailable, match=r"of \d+ MiB used, limit 80%; ask again in 5 s") as no:
                await door.publish("predict", bench.request())
            assert no.value.retry_after_s == 5.0
            await redis.xgroup_create(bench.stream, "inference", mkstream=True)  # what a worker writes is taken
            await redis.config_set("maxmemory", 10 * used)
            said[0] = "ready"  # a change is said at once

            async def forgotten() -> bool:
                return not await redis.exists(names.SHORT)

            await bench.eventually(forgotten)
            await door.publish("predict", bench.request())
            stop.set()
            await beating
    finally:
        await server.stop()
