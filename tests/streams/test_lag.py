"""How far the readers of a stream are behind."""

from __future__ import annotations

from typing import Any

from nvp_agentkit.messages import Event
from nvp_agentkit.streams import names, publish
from nvp_agentkit.streams.lag import Lag, lags
from tests.streams.conftest import Bench


async def of(bench: Bench, suffix: str) -> dict[str, Lag]:
    return {one.group: one for one in await lags(bench.redis, [suffix]) if one.account == bench.account}


async def ask(bench: Bench, count: int, suffix: str) -> list[Event]:
    events = [bench.request() for _ in range(count)]
    for event in events:
        await publish(bench.redis, bench.account, suffix, event)
    return events


async def test_what_waits_and_what_is_in_hand_and_how_old_the_oldest_is(bench):
    await ask(bench, 3, "predict")
    await bench.redis.xadd(names.dead(bench.stream), {"reason": "none"})
    taken: Any = await bench.redis.xreadgroup("inference", "me", {bench.stream: ">"}, count=1)
    found = (await of(bench, "predict"))["inference"]
    assert (found.waiting, found.pending, found.dead) == (2, 1, 1)
    assert 0 <= found.oldest_s < 60
    await bench.redis.xclaim(bench.stream, "inference", "me", 0, [taken[0][1][0][0]])
    bench.start()
    await bench.eventually(bench.idle, within_s=30)
    found = (await of(bench, "predict"))["inference"]
    assert (found.waiting, found.pending, found.oldest_s) == (0, 0, 0)


async def test_each_group_of_a_stream_has_its_own_and_a_deletion_makes_none_up(bench):
    stream = names.key(bench.account, "ensemble")
    await ask(bench, 4, "ensemble")
    taken: Any = await bench.redis.xreadgroup("voter-1", "me", {stream: ">"}, count=3)
    await bench.redis.xack(stream, "voter-1", *(entry_id for entry_id, _ in taken[0][1]))  # the others need them still
    waiting = {group: one.waiting for group, one in (await of(bench, "ensemble")).items()}
    counted = "lag" in (await bench.redis.xinfo_groups(stream))[0]  # Redis 6.2 tells what waits at most
    assert waiting == {"voter-0": 4, "voter-1": 1 if counted else 4, "voter-2": 4, "tally": 4}
    ((last, _),) = await bench.redis.xrevrange(stream, count=1)
    await bench.redis.xdel(stream, last)  # after which no server says what waits
    await ask(bench, 1, "ensemble")
    assert 1 <= (await of(bench, "ensemble"))["voter-1"].waiting <= 4


async def test_a_key_that_is_no_stream_hides_no_other(bench):
    await bench.redis.delete(bench.stream)
    await bench.redis.set(bench.stream, "no stream", ex=60)
    await ask(bench, 1, "votes")
    assert await of(bench, "predict") == {}
    assert (await of(bench, "votes"))["tally"].waiting == 1
