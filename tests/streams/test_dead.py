"""Dead letters are looked at, sent round again or dropped, and it is known who did."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from nvp_agentkit.errors import ConflictingFact, DeadlineExceeded, InvalidInput, UnknownName
from nvp_agentkit.streams import Completion, dead, names, publish
from nvp_agentkit.streams.completion import emit
from tests.streams.conftest import ANSWERED, REFUSED, Bench


class Mended:
    """A handler with a defect, until somebody mends it."""

    def __init__(self, bench: Bench) -> None:
        self.bench, self.broken, self.seen = bench, True, []

    async def __call__(self, delivery: Any) -> Completion:
        self.seen.append(delivery)
        if self.broken:
            raise ZeroDivisionError("a defect")
        return self.bench.answered(delivery)


async def letters(bench: Bench, count: int = 1, suffix: str = "predict") -> list[dead.DeadLetter]:
    async def there() -> list[dead.DeadLetter]:
        found = await dead.dead_letters(bench.redis, bench.account, suffix, count=count + 1)
        return found if len(found) == count else []

    return await bench.eventually(there)


async def died(bench: Bench, handle: Mended) -> tuple[Any, dead.DeadLetter]:
    """A request that was answered with its defect, and its letter."""
    event = await bench.ask()
    bench.each(handle)
    await bench.reply(event, REFUSED)
    (letter,) = await letters(bench)
    return event, letter


async def test_a_letter_has_the_original_bytes_the_reason_the_attempts_and_the_worker(bench):
    event, letter = await died(bench, Mended(bench))
    assert letter.raw == {b"event": event.encode()}
    assert letter.size == len(b"event") + len(event.encode())
    assert (letter.group, letter.worker.split(".")[0], letter.attempts) == ("inference", "worker", 1)
    assert "ZeroDivisionError: a defect" in letter.reason
    assert letter.told == (REFUSED,)
    assert await dead.find(bench.redis, letter.name) == letter
    assert (await dead.heaps(bench.redis))[bench.account, "predict"] == 1


async def test_what_is_replayed_runs_again_though_its_id_was_claimed_and_its_answer_replaces_the_refusal(bench):
    handle = Mended(bench)
    event, letter = await died(bench, handle)
    handle.broken = False
    (entry_id,) = await dead.replay(bench.redis, [letter], by="an operator")
    await bench.reply(event)
    first, again = handle.seen
    assert (again.event, again.entry_id, again.origin) == (event, entry_id, first.entry_id)
    assert (again.attempt, again.earlier) == (1, 1)
    assert await bench.redis.hkeys(names.answers(bench.account, event.id)) == [ANSWERED.encode()]
    assert await bench.replies(event) == [REFUSED.encode(), ANSWERED.encode()]  # whoever follows reads both, in order
    await bench.eventually(bench.idle)
    assert await bench.dead() == []


async def test_a_final_answer_that_the_letter_gave_is_taken_back_and_one_that_another_gave_is_not(bench):
    handle = Mended(bench)

    def refuse(delivery, error):
        refusal = bench.refused(delivery, error)
        return Completion(replies=refusal.replies, once=names.decided(delivery.request_id))

    mine, others = await bench.ask(), await bench.ask()
    await emit(bench.redis, bench.account, Completion(once=names.decided(others.id)))
    bench.each(handle, refuse=refuse)
    found = await letters(bench, 2)
    assert {letter.event.id: letter.told for letter in found} == {mine.id: (REFUSED,), others.id: ()}
    await dead.replay(bench.redis, found, by="me")
    decided = [names.key(bench.account, names.decided(event.id)) for event in (mine, others)]
    marks = await bench.redis.mget(decided)
    again = await letters(bench, 2)
    assert {letter.event.id: letter.told for letter in again} == {mine.id: (REFUSED,), others.id: ()}
    assert marks[1] == b"0-0"


async def test_replayed_for_one_group_it_is_nobody_elses_work(bench):
    handle, seen = Mended(bench), []

    async def fine(delivery):
        seen.append(delivery)
        return Completion()

    event = bench.request()
    await publish(bench.redis, bench.account, "ensemble", event)
    bench.each(handle, kind="ensemble", group="voter-1", refuse=lambda *_: Completion())
    for group in ("voter-0", "voter-2", "tally"):
        bench.each(fine, kind="ensemble", group=group)
    (letter,) = await letters(bench, suffix="ensemble")
    handle.broken = False
    assert isinstance((await dead.replay(bench.redis, [letter], by="me"))[0], str)
    stream = names.key(bench.account, "ensemble")

    async def done():
        return await bench.redis.xlen(stream) == 0

    await bench.eventually(done)
    assert [delivery.earlier for delivery in handle.seen] == [0, 1]
    assert len(seen) == 3


async def test_what_dies_again_is_a_letter_again_with_all_its_attempts_and_can_be_replayed_again(bench):
    handle = Mended(bench)
    event, letter = await died(bench, handle)
    for attempts in (2, 3):
        await dead.replay(bench.redis, [letter], by="me")
        (letter,) = await bench.eventually(lambda: dead.dead_letters(bench.redis, bench.account, "predict"))
        assert (letter.attempts, letter.raw) == (attempts, {b"event": event.encode()})
    handle.broken = False
    await dead.replay(bench.redis, [letter], by="me")
    await bench.reply(event)


async def test_a_letter_is_replayed_once_whoever_tries(bench):
    handle = Mended(bench)
    _, letter = await died(bench, handle)
    handle.broken = False
    tries = await asyncio.gather(*(dead.replay(bench.redis, [letter], by=f"operator {n}") for n in range(4)))
    assert sorted(type(result) for (result,) in tries if isinstance(result, str)) == [str]
    assert sum(isinstance(result, UnknownName) for (result,) in tries) == 3
    await bench.eventually(bench.idle)
    assert len(handle.seen) == 2


HOSTILE = {b"\x1b[2J\xff\x00": b"\x00\xff\n\x1b]0;owned\x07", b"": b"", b"raw:event": b"{}", b"event": b"\xff\x00"}


async def test_hostile_bytes_come_back_byte_for_byte(bench):
    await bench.redis.xadd(bench.stream, HOSTILE)
    bench.start()
    (letter,) = await letters(bench)
    assert letter.raw == HOSTILE
    await bench.redis.xgroup_destroy(bench.stream, "inference")  # nobody takes it before it was looked at
    for stop, task in bench.stops:
        stop.set()
        await task
    await dead.replay(bench.redis, [letter], by="me")
    ((_, fields),) = await bench.redis.xrange(bench.stream)
    assert fields.pop(b"replayed") == f"inference 1 {letter.entry_id}".encode()
    assert fields == HOSTILE


@pytest.mark.parametrize(
    "history", [b"voter-1", b"voter-1 \xff 1-1", b"voter-1 1 1", b"voter-1 9999999999 1-1", b"voter-1 3 1-1"]
)
async def test_a_forged_history_is_none(bench, history):
    event = bench.request()
    seen = Mended(bench)
    seen.broken = False
    await bench.redis.xadd(bench.stream, {b"event": event.encode(), b"replayed": history})
    bench.each(seen)
    await bench.reply(event)
    assert (seen.seen[0].earlier, seen.seen[0].origin) == (0, seen.seen[0].entry_id)


async def test_what_was_not_kept_whole_or_is_late_or_asked_anew_is_not_replayed_and_stays(bench):
    await bench.redis.xadd(bench.stream, {b"event": b" " * 70_000})
    late = bench.request(within_s=0.3)
    anew = bench.request()
    for event in (late, anew):
        await bench.ask(event)
    bench.each(Mended(bench))
    cut, of_late, of_anew = reversed(await letters(bench, 3))
    await bench.redis.set(names.claim(bench.account, anew.id), f"{bench.stream} 9-9")
    await bench.eventually(lambda: asyncio.sleep(0.02, datetime.now(UTC) > late.deadline + timedelta(seconds=0.05)))
    refused = await dead.replay(bench.redis, [cut, of_late, of_anew], by="me")
    assert [type(error) for error in refused] == [InvalidInput, DeadlineExceeded, ConflictingFact]
    assert "65536 of its 70005 bytes were kept" in str(refused[0])
    assert len(await letters(bench, 3)) == 3
    await bench.redis.delete(names.claim(bench.account, anew.id))


async def test_what_is_dropped_is_gone_for_good_and_both_are_on_record(bench):
    handle = Mended(bench)
    event, letter = await died(bench, handle)
    assert await dead.drop(bench.redis, [letter], by="ann@host") == 1
    assert await dead.drop(bench.redis, [letter], by="ann@host") == 0
    with pytest.raises(UnknownName, match="replayed, dropped or displaced"):
        await dead.find(bench.redis, letter.name)
    other = await bench.ask()
    await bench.reply(other, REFUSED)
    (second,) = await letters(bench)
    handle.broken = False
    (entry_id,) = await dead.replay(bench.redis, [second], by="bob@host")
    newest, oldest = await dead.handled(bench.redis, bench.account)
    assert (newest.what, newest.name, newest.as_id, newest.by) == ("replayed", second.name, entry_id, "bob@host")
    assert (oldest.what, oldest.name, oldest.reason, oldest.by) == ("dropped", letter.name, letter.reason, "ann@host")
    assert 0 < await bench.redis.ttl(names.handled(bench.account)) <= dead.DONE_TTL_S
    assert await bench.replies(event) == [REFUSED.encode()]
    await bench.reply(other)


async def test_dead_letters_of_one_stream_stay_within_their_bytes_and_the_newest_are_whole(bench):
    pipe = bench.redis.pipeline()
    for _ in range(300):
        pipe.xadd(bench.stream, {b"event": b"x" * 60_000})
    await pipe.execute()
    await bench.redis.xadd(bench.stream, {b"event": b"the last"})
    bench.start(batch=100)
    await bench.eventually(bench.idle)
    heap = names.dead(bench.stream)
    assert await bench.redis.memory_usage(heap, samples=0) <= 8 * 2**20
    assert 100 < await bench.redis.xlen(heap) < 140
    newest, before, *_ = await bench.dead()
    assert newest.raw == {b"event": b"the last"}
    assert before.raw == {b"event": b"x" * 60_000}
    for stop, task in bench.stops:
        stop.set()
        await task
    (entry_id,) = await dead.replay(bench.redis, [before], by="me")
    ((found, fields),) = await bench.redis.xrange(bench.stream)
    assert (found.decode(), fields[b"event"]) == (entry_id, before.raw[b"event"])


async def test_all_of_many_letters_are_found_a_page_at_a_time(bench):
    pipe = bench.redis.pipeline()
    for n in range(250):
        pipe.xadd(names.dead(bench.stream), {"id": f"{n + 1}-0", "reason": f"no {n}", "group": "inference",
                                             "worker": "w", "at_ms": "1", "attempts": "1", "size": "0", "told": ""})
    await pipe.execute()
    found = [letter.reason async for page in dead.pages(bench.redis, bench.account, "predict") for letter in page]
    assert found == [f"no {n}" for n in range(250)]


@pytest.mark.parametrize("name", ["", "ace-1", "ace-1/replies/1-1", "ace-1/predict/*", "../predict/1-1"])
async def test_a_name_that_is_none_is_refused(redis, name):
    with pytest.raises(InvalidInput, match="ACCOUNT/STREAM/ID"):
        await dead.find(redis, name)
