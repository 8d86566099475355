"""The one atomic step at the end of a message, and what it leaves in Redis."""

from __future__ import annotations

import hashlib
import json
from datetime import UTC, datetime, timedelta

import pytest

from nvp_agentkit.messages import LineageRecorded, decode, new_event
from nvp_agentkit.messages.checks import MAX_DEADLINE_S
from nvp_agentkit.streams import Completion, emit, names, scripts
from nvp_agentkit.streams.completion import Settlement, complete, settle


async def deliver(bench, stream: str, group: str, consumer: str = "me") -> list[str]:
    found = await bench.redis.xreadgroup(group, consumer, {stream: ">"})
    return [entry_id.decode() for _, entries in found for entry_id, _ in entries]


async def test_reply_facts_forwards_and_fields_come_with_the_acknowledgement(bench):
    event = await bench.ask()
    fact = new_event(LineageRecorded(), source="worker")

    async def handle(delivery):
        return Completion(
            replies=bench.answered(delivery).replies,
            facts=(fact,),
            forwards=(("votes", fact), (f"job:{delivery.request_id}", fact)),
            fields=(("models", "plasma_physics", "{}"), (f"case:{delivery.request_id}", "voter-0", "{}")),
        )

    bench.each(handle)
    await bench.eventually(bench.idle)
    await bench.reply(event)
    for suffix in ("lineage", "votes", f"job:{event.id}"):
        ((_, fields),) = await bench.redis.xrange(names.key(bench.account, suffix))
        assert decode(fields[b"event"]) == fact
    assert await bench.redis.hget(names.key(bench.account, "models"), "plasma_physics") == b"{}"
    assert await bench.redis.hget(names.key(bench.account, f"case:{event.id}"), "voter-0") == b"{}"
    for suffix in (f"reply:{event.id}", f"case:{event.id}", f"job:{event.id}"):
        assert 3000 < await bench.redis.ttl(names.key(bench.account, suffix)) <= 3600


async def test_what_is_dated_holds_from_the_millisecond_after_it_and_the_newest_are_kept(bench):
    redis, key = bench.redis, names.key(bench.account, "models")
    for number in range(34):
        before = (await redis.xadd(names.key(bench.account, "predict"), {"event": b""})).partition(b"-")[0]
        await emit(redis, bench.account, Completion(dated=(("models", "service:rain", f'{{"n": {number}}}'),)))
        after = (await redis.xadd(names.key(bench.account, "predict"), {"event": b""})).partition(b"-")[0]
        newest = json.loads(await redis.hget(key, "service:rain"))[-1]
        assert newest["n"] == number
        assert int(before) < newest["since_ms"] <= int(after) + 1
    kept = json.loads(await redis.hget(key, "service:rain"))
    assert [one["n"] for one in kept] == list(range(2, 34))
    assert [one["since_ms"] for one in kept] == sorted(one["since_ms"] for one in kept)
    await redis.hset(key, "service:rain", "no list")
    await emit(redis, bench.account, Completion(dated=(("models", "service:rain", '{"n": 0}'),)))
    assert len(json.loads(await redis.hget(key, "service:rain"))) == 1


async def test_of_completions_with_one_name_only_the_first_has_effects(bench):
    event = bench.request()
    for winner in ("certified", "abstained"):
        await emit(
            bench.redis, bench.account, Completion(fields=((f"case:{event.id}", "decided", winner),), once="decided:1")
        )
    assert await bench.redis.hget(names.key(bench.account, f"case:{event.id}"), "decided") == b"certified"
    assert 3000 < await bench.redis.ttl(names.key(bench.account, "decided:1")) <= 3600


async def test_that_something_was_said_is_remembered_beyond_its_deadline_and_what_waited_for_it_is_removed(bench):
    waiting = names.key(bench.account, "deadlines")
    await bench.redis.zadd(waiting, {"1": 1, "2": 2})
    tomorrow = datetime.now(UTC) + timedelta(days=1)
    await emit(bench.redis, bench.account, Completion(once="decided:1", until=tomorrow, removals=(("deadlines", "1"),)))
    assert await bench.redis.ttl(names.key(bench.account, "decided:1")) > 86_400
    await emit(bench.redis, bench.account, Completion(once="decided:2", until=datetime.max.replace(tzinfo=UTC)))
    assert await bench.redis.ttl(names.key(bench.account, "decided:2")) <= MAX_DEADLINE_S + 3600
    assert await bench.redis.zrange(waiting, 0, -1) == [b"2"]


async def test_an_entry_whose_effect_fails_stays_pending_and_its_neighbours_are_done(bench):
    await bench.redis.set(names.key(bench.account, "case:1"), "a string, where a hash should be")
    for _ in range(3):
        await bench.ask()
    ids = await deliver(bench, bench.stream, "inference")
    good, bad = Completion(), Completion(fields=(("case:1", "field", "value"),))
    pairs = zip((*ids, "1-1"), (good, bad, good, good), strict=True)
    wanted = [Settlement(bench.account, bench.stream, entry_id, done) for entry_id, done in pairs]
    first, failed, last, nobodys = await settle(bench.redis, "inference", "me", wanted)
    assert (first, last, nobodys) == (1, 1, 0)
    assert "WRONGTYPE" in str(failed)
    (left,) = await bench.redis.xpending_range(bench.stream, "inference", "-", "+", 10)
    assert left["message_id"].decode() == ids[1]
    assert await bench.redis.xlen(bench.stream) == 1
    await bench.redis.delete(names.key(bench.account, "case:1"))
    assert await settle(bench.redis, "inference", "me", wanted) == [0, 1, 0, 0]


async def test_accounts_whose_entries_are_settled_together_harm_each_other_no_more_than_neighbours_do(bench):
    redis = bench.redis
    other = f"{bench.account}-too"
    theirs = names.key(other, "predict")
    await redis.xgroup_create(theirs, "inference", id="0", mkstream=True)
    await bench.ask()
    for _ in range(2):
        await bench.ask(account=other)
    (mine,) = await deliver(bench, bench.stream, "inference")
    kept, done = await deliver(bench, theirs, "inference")
    await redis.set(names.key(other, "case:1"), "a string, where a hash should be")
    bad = Completion(fields=(("case:1", "field", "value"),))
    first, failed, last = await settle(redis, "inference", "me", [
        Settlement(bench.account, bench.stream, mine, Completion()),
        Settlement(other, theirs, kept, bad),
        Settlement(other, theirs, done, Completion(), dead="it was no use"),
    ])  # fmt: skip
    assert (first, last) == (1, 1)
    assert "WRONGTYPE" in str(failed)
    assert await redis.xlen(bench.stream) == 0
    assert [entry_id.decode() for entry_id, _ in await redis.xrange(theirs)] == [kept]
    ((_, letter),) = await redis.xrange(names.dead(theirs))
    assert letter[b"id"].decode() == done
    assert await redis.xlen(names.dead(bench.stream)) == 0
    await redis.delete(theirs, names.dead(theirs), names.key(other, "case:1"))


@pytest.mark.parametrize("seq", [2**53 + 1, 2**64 - 2, 2**64 - 1])
async def test_an_id_that_its_sender_chose_ends_as_any_other_and_holds_up_no_other_account(bench, seq):
    ensemble, groups = names.key(bench.account, "ensemble"), names.GROUPS["ensemble"]
    for place in (max(1, seq - 2**60), seq):
        await bench.redis.xadd(ensemble, {"event": b"x"}, id=f"1-{place}")
    await bench.ask()
    await bench.redis.xgroup_create(bench.stream, groups[-1], id="0")
    for group in groups:
        assert await bench.redis.xlen(ensemble) == 2
        streams = (ensemble, bench.stream) if group == groups[-1] else (ensemble,)
        ids = {stream: await deliver(bench, stream, group) for stream in streams}
        done = [Settlement(bench.account, stream, one, Completion()) for stream, some in ids.items() for one in some]
        assert set(await settle(bench.redis, group, "me", done)) == {1}
    assert await bench.redis.xlen(ensemble) == 0
    assert (await bench.redis.xpending(bench.stream, groups[-1]))["pending"] == 0


async def test_who_holds_more_than_is_looked_at_in_one_go_completes_all_the_same(bench):
    pipe = bench.redis.pipeline(transaction=False)
    for _ in range(1_100):
        pipe.xadd(bench.stream, {"event": b"x"})
    await pipe.execute()
    ids = await deliver(bench, bench.stream, "inference")
    wanted = [Settlement(bench.account, bench.stream, one, Completion()) for one in (ids[0], ids[-1])]
    assert await settle(bench.redis, "inference", "me", wanted) == [1, 1]
    assert await settle(bench.redis, "inference", "somebody", wanted) == [0, 0]


async def test_a_reply_that_answers_nothing_is_refused(bench):
    lost = new_event(LineageRecorded(), source="worker")
    with pytest.raises(ValueError, match="set its `replyto`"):
        await emit(bench.redis, bench.account, Completion(replies=(lost,)))


async def test_an_entry_stays_until_every_group_is_done_with_it(bench):
    stream = names.key(bench.account, "ensemble")
    ids = [(await bench.redis.xadd(stream, {"event": b"x"})).decode() for _ in range(3)]

    async def done(group: str, entry_id: str) -> list[str]:
        settlement = Settlement(bench.account, stream, entry_id, Completion())
        assert await complete(bench.redis, settlement, group=group, consumer="me")
        return [kept.decode() for kept, _ in await bench.redis.xrange(stream)]

    await bench.redis.xgroup_destroy(stream, "tally")
    assert await deliver(bench, stream, "voter-0") == ids
    for entry_id in ids:
        assert await done("voter-0", entry_id) == ids  # voter-1 and voter-2 have seen none of them
    assert await deliver(bench, stream, "voter-1") == ids
    assert await deliver(bench, stream, "voter-2") == ids
    assert await done("voter-1", ids[2]) == ids
    assert await done("voter-1", ids[0]) == ids
    assert await done("voter-2", ids[0]) == ids[1:]
    assert await done("voter-2", ids[1]) == ids[1:]  # voter-1 still works on the second
    assert await done("voter-1", ids[1]) == ids[2:]
    assert await done("voter-2", ids[2]) == []


@pytest.fixture
async def flooded(bench) -> tuple[str, list[str]]:
    """A stream further behind than dead groups may be: two voters had all of it, the first is done but for one."""
    stream = names.key(bench.account, "ensemble")
    await bench.redis.xgroup_destroy(stream, "tally")
    pipe = bench.redis.pipeline(transaction=False)
    for _ in range(10_002):
        pipe.xadd(stream, {"event": b"x"})
    await pipe.execute()
    ids = await deliver(bench, stream, "voter-0")
    assert await deliver(bench, stream, "voter-1") == ids
    await bench.redis.xack(stream, "voter-0", *ids[1:])
    await bench.redis.xack(stream, "voter-1", *ids)
    return stream, ids


async def finish(bench, stream: str, entry_id: str) -> list[bytes]:
    """The first voter is done with its oldest entry, and one more; why letters have died by then."""
    done = Settlement(bench.account, stream, entry_id, Completion())
    assert await complete(bench.redis, done, group="voter-0", consumer="me")
    await bench.redis.xadd(stream, {"event": b"next"})
    (last,) = await deliver(bench, stream, "voter-0")
    await complete(bench.redis, done._replace(entry_id=last), group="voter-0", consumer="me")
    return [fields[b"reason"] for _, fields in await bench.redis.xrange(names.dead(stream))]


FORFEITED = [b"group voter-2 is dead, fell 10000 entries behind and forfeits them"]


async def test_a_dead_shadow_forfeits_its_place_on_record(bench, flooded):
    stream, ids = flooded
    assert await finish(bench, stream, ids[0]) == FORFEITED
    assert await bench.redis.xlen(stream) < 10


async def test_a_group_whose_workers_live_forfeits_nothing_however_far_it_is_behind(bench, flooded):
    stream, ids = flooded
    await bench.redis.xreadgroup("voter-2", "slow", {stream: ">"}, count=16)
    assert await finish(bench, stream, ids[0]) == []
    assert await bench.redis.xlen(stream) == len(ids) + 1
    assert (await bench.redis.xpending(stream, "voter-2"))["pending"] == 16


async def test_a_group_none_of_whose_workers_was_seen_lately_is_dead(bench, flooded, monkeypatch):
    stream, ids = flooded
    await bench.redis.xreadgroup("voter-2", "gone", {stream: ">"}, count=16)
    text = scripts._source("complete")[0].replace("local DEAD_MS = 300000", "local DEAD_MS = 0")
    found = text, hashlib.sha1(text.encode()).hexdigest()
    monkeypatch.setattr(scripts, "_source", lambda name: found)
    assert await finish(bench, stream, ids[0]) == FORFEITED


async def test_a_dead_letter_keeps_what_was_there(bench):
    await bench.redis.xadd(bench.stream, {b"event": b"\x00\xff", b"more": b"1"})
    bench.start()
    (letter,) = await bench.eventually(bench.dead)
    assert letter.raw == {b"event": b"\x00\xff", b"more": b"1"}
    assert letter.group == "inference"
    assert letter.at_ms > 0
