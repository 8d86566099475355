"""A batch that takes long lets the next ones begin, as many as there are hands, and is finished as any other.

What is done ``apart`` does not wait for the others of its batch.
"""

from __future__ import annotations

import asyncio
from collections import Counter

import pytest

from nvp_agentkit.errors import StoreUnavailable
from nvp_agentkit.streams.intake import BLOCK_S, SUSPECT

IMPATIENT_S = 0.05


class Held:
    """A handler that holds the requests it is told to, until it lets go of them."""

    def __init__(self, bench, *slow) -> None:
        self._bench, self._slow = bench, {event.id for event in slow}
        self.began: Counter[str] = Counter()
        self.attempts: list[int] = []
        self.go = asyncio.Event()

    async def __call__(self, delivery):
        self.began[delivery.request_id] += 1
        self.attempts.append(delivery.attempt)
        if delivery.request_id in self._slow:
            await self.go.wait()
        return self._bench.answered(delivery)

    async def has(self, event) -> None:
        await self._bench.eventually(lambda: asyncio.sleep(0, self.began[event.id]))


async def test_what_comes_after_a_slow_batch_is_answered_and_the_slow_one_when_it_is_done(bench, make_request) -> None:
    slow, other = make_request(), make_request()
    held = Held(bench, slow)
    bench.each(held, hands=2, prompt_s=IMPATIENT_S)
    await bench.ask(slow)
    await held.has(slow)
    await bench.ask(other)
    await bench.reply(other)
    assert await bench.replies(slow) == []
    held.go.set()
    await bench.reply(slow)
    await bench.eventually(bench.idle)
    assert held.began == {slow.id: 1, other.id: 1}


async def test_no_more_batches_begin_than_there_are_hands(bench, make_request) -> None:
    slow, slower, other = make_request(), make_request(), make_request()
    held = Held(bench, slow, slower)
    here = bench.each(held, hands=2, prompt_s=IMPATIENT_S)
    for event in (slow, slower):
        await bench.ask(event)
        await held.has(event)
    await bench.ask(other)
    third = asyncio.create_task(held.has(other))
    assert (await asyncio.wait({third}, timeout=1.0))[0] == set()
    assert len(here.in_flight_s) == 2
    held.go.set()
    await third
    await bench.reply(other)


async def test_a_slow_batch_is_finished_in_the_drain_or_handed_back_uncounted(bench, make_request) -> None:
    for lets_go in (True, False):
        slow, other = make_request(), make_request()
        held = Held(bench, slow)
        bench.each(held, hands=2, prompt_s=IMPATIENT_S, drain_timeout_s=10.0 if lets_go else 0.2, lease_s=15.0)
        stop, running = bench.stops[-1]
        await bench.ask(slow)
        await held.has(slow)
        await bench.ask(other)
        await bench.reply(other)
        stop.set()
        if lets_go:
            assert (await asyncio.wait({running}, timeout=2 * BLOCK_S))[0] == set(), "it did not wait for what is slow"
            held.go.set()
        await asyncio.wait_for(running, 5)
        assert await bench.pending() == (0 if lets_go else 1)
    again = Held(bench)
    bench.each(again, lease_s=15.0)
    await asyncio.wait_for(bench.reply(slow), 5)
    assert again.attempts == [1]


async def test_a_slow_batch_that_fails_is_tried_again(bench, make_request) -> None:
    slow, other = make_request(), make_request()
    go, attempts = asyncio.Event(), []

    async def handle(delivery):
        if delivery.request_id == slow.id:
            attempts.append(delivery.attempt)
            if len(attempts) == 1:
                await go.wait()
                raise StoreUnavailable("for a moment")
        return bench.answered(delivery)

    bench.each(handle, hands=2, prompt_s=IMPATIENT_S, lease_s=15.0)
    await bench.ask(slow)
    await bench.eventually(lambda: asyncio.sleep(0, attempts))
    await bench.ask(other)
    await bench.reply(other)
    go.set()
    await asyncio.wait_for(bench.reply(slow), 10)  # sooner than a lease runs out
    assert attempts == [1, 2]


async def test_what_may_kill_its_worker_is_not_begun_beside_a_slow_batch(bench, make_request) -> None:
    slow, suspect = make_request(), make_request()
    held = Held(bench, slow)
    alone: list[bool] = []

    async def handle(delivery):
        if delivery.request_id == suspect.id:
            alone.append(held.go.is_set())
        return await held(delivery)

    async def holder() -> tuple[bytes, bytes]:
        (entry,) = await bench.redis.xpending_range(bench.stream, "inference", "-", "+", 1)
        return entry["message_id"], entry["consumer"]

    await bench.consumer()._intake.take(1, 0)  # so that there is a group
    await bench.ask(suspect)
    await bench.redis.xreadgroup("inference", "dead", {bench.stream: ">"})
    bench.each(handle, hands=2, prompt_s=IMPATIENT_S, lease_s=15.0)
    await bench.ask(slow)
    await held.has(slow)
    entry_id, _ = await holder()
    await bench.redis.xclaim(bench.stream, "inference", "dead", 0, [entry_id], idle=20_000, retrycount=SUSPECT)

    async def taken_over() -> bool:
        return (await holder())[1] != b"dead"

    await bench.eventually(taken_over)
    held.go.set()
    await bench.reply(suspect)
    assert alone == [True]


async def test_the_last_hand_is_free_as_soon_as_any_is(bench, make_request) -> None:
    slow, slowest, other = make_request(), make_request(), make_request()
    let_go: dict[str, asyncio.Event] = {slow.id: asyncio.Event(), slowest.id: asyncio.Event()}
    began: list[str] = []

    async def handle(delivery):
        began.append(delivery.request_id)
        if delivery.request_id in let_go:
            await let_go[delivery.request_id].wait()
        return bench.answered(delivery)

    bench.each(handle, hands=2, prompt_s=IMPATIENT_S, lease_s=15.0)
    for event in (slow, slowest):
        await bench.ask(event)
        await bench.eventually(lambda event=event: asyncio.sleep(0, event.id in began))
    let_go[slow.id].set()
    await bench.ask(other)
    await asyncio.wait_for(bench.reply(other), 5)
    assert await bench.replies(slowest) == []
    let_go[slowest.id].set()
    await bench.reply(slowest)


async def test_what_a_slow_batch_fails_by_ends_its_worker_as_what_a_quick_one_does(bench, make_request) -> None:
    slow, other = make_request(), make_request()
    held = Held(bench, slow)

    async def handle(delivery):
        done = await held(delivery)
        unfit = [reply.model_copy(update={"replyto": None}) for reply in done.replies]
        return done._replace(replies=tuple(unfit)) if delivery.request_id == slow.id else done

    bench.each(handle, hands=2, prompt_s=IMPATIENT_S, lease_s=15.0)
    _, running = bench.stops.pop()
    await bench.ask(slow)
    await held.has(slow)
    await bench.ask(other)
    await bench.reply(other)
    held.go.set()
    with pytest.raises(ValueError, match="does not say what it answers"):
        await asyncio.wait_for(running, 5)


async def test_what_is_done_apart_is_answered_while_another_of_its_batch_is_at_work(bench, make_request) -> None:
    slow, other = make_request(), make_request()
    held = Held(bench, slow)
    for event in (slow, other):
        await bench.ask(event)
    here = bench.each(held, batch=2, apart=True, lease_s=15.0)
    await bench.reply(other)
    await bench.eventually(lambda: asyncio.sleep(0, len(here.in_flight_s) == 1))
    assert await bench.pending() == 1
    assert await bench.replies(slow) == []
    held.go.set()
    await bench.reply(slow)
    await bench.eventually(bench.idle)
    assert held.began == {slow.id: 1, other.id: 1}


async def test_what_is_done_apart_is_kept_where_the_rest_of_its_batch_is_handed_back(bench, make_request) -> None:
    for hands in (1, 2):
        slow, other = make_request(), make_request()
        held = Held(bench, slow)
        for event in (slow, other):
            await bench.ask(event)
        given = {"batch": 2, "apart": True, "hands": hands, "prompt_s": IMPATIENT_S}
        bench.each(held, **given, lease_s=15.0, drain_timeout_s=0.2)
        stop, running = bench.stops[-1]
        await bench.reply(other)
        stop.set()
        await asyncio.wait_for(running, 5)
        assert await bench.pending() == 1
        again = Held(bench)
        bench.each(again, lease_s=15.0)
        await asyncio.wait_for(bench.reply(slow), 5)
        assert again.attempts == [1]
        bench.stops[-1][0].set()
        await bench.stops[-1][1]


async def test_what_fails_apart_is_tried_again_while_another_of_its_batch_is_at_work(bench, make_request) -> None:
    slow, other = make_request(), make_request()
    held = Held(bench, slow)

    async def handle(delivery):
        if delivery.request_id == other.id and held.began[other.id] < 1:
            held.began[other.id] += 1
            raise StoreUnavailable("for a moment")
        return await held(delivery)

    for event in (slow, other):
        await bench.ask(event)
    bench.each(handle, batch=2, apart=True, hands=2, prompt_s=IMPATIENT_S, lease_s=15.0)
    await bench.reply(other)
    assert await bench.replies(slow) == []
    assert (held.began[slow.id], held.began[other.id]) == (1, 2)
    held.go.set()
    await bench.reply(slow)
