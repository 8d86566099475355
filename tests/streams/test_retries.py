"""What a handler says or does, and what becomes of the message."""

from __future__ import annotations

import asyncio
import errno
import logging
import math
import time

import pytest
from redis.exceptions import ConnectionError as RedisConnectionError
from structlog.contextvars import get_contextvars

from nvp_agentkit.errors import ComputeFailed, InsufficientJoules, StoreUnavailable
from nvp_agentkit.streams import one_by_one

REFUSED = "nvp.prediction.refused.v1"


@pytest.mark.parametrize("error", [ComputeFailed("child died"), StoreUnavailable("gone"), RedisConnectionError("gone")])
async def test_a_retryable_error_sends_the_message_round_again_with_back_off(bench, error):
    seen = []

    async def handle(delivery):
        seen.append((delivery.attempt, time.monotonic()))
        if delivery.attempt < 3:
            raise error
        return bench.answered(delivery)

    consumer = bench.each(handle, lease_s=2.0)
    event = await bench.ask()
    await bench.reply(event)
    assert [attempt for attempt, _ in seen] == [1, 2, 3]
    assert seen[1][1] - seen[0][1] >= 0.25
    assert seen[2][1] - seen[1][1] >= 0.5
    assert consumer.counts["retried"] == 2
    assert await bench.dead() == []


async def test_an_error_of_this_machine_is_no_stores_absence_and_not_tried_again(bench):
    attempts = []

    async def handle(delivery):
        attempts.append(delivery.attempt)
        raise OSError(errno.ENAMETOOLONG, "File name too long")

    bench.each(handle)
    event = await bench.ask()
    refused = await bench.reply(event, REFUSED)
    assert refused.data["code"] == "internal"
    assert "File name too long" in refused.data["detail"]
    assert attempts == [1]


async def test_after_the_last_attempt_the_client_is_told_and_the_message_is_kept(bench):
    async def handle(delivery):
        raise ComputeFailed(f"attempt {delivery.attempt}")

    bench.each(handle, lease_s=0.4, max_deliveries=2)
    event = await bench.ask()
    assert (await bench.reply(event, REFUSED)).data["code"] == "compute_failed"
    (letter,) = await bench.dead()
    assert letter.reason == "failed 2 times, last with: attempt 2"
    await bench.eventually(bench.idle)


async def test_every_line_about_a_message_says_whose_it_is_and_which_trace(bench):
    said: dict[str, dict[str, str]] = {}

    class Ears(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            said[record.getMessage()] = {"module": record.module, **get_contextvars()}

    async def handle(delivery):
        if delivery.attempt == 1:
            raise ComputeFailed("for now")
        await bench.redis.xclaim(bench.stream, "inference", "thief", 0, [delivery.entry_id])
        raise ZeroDivisionError("for good")

    async def broken(delivery):
        raise ZeroDivisionError("at once")

    trace = "0af7651916cd43dd8448eb211c80319c"
    event = bench.request().model_copy(update={"traceparent": f"00-{trace}-b7ad6b7169203331-01"})
    logging.getLogger("nvp_agentkit").addHandler(ears := Ears())
    try:
        await bench.ask(event)
        first = bench.consumer(one_by_one(handle), lease_s=0.8)
        stop = bench.run(first)
        await bench.eventually(lambda: asyncio.sleep(0, first.counts["lost"]))
        stop.set()
        await bench.stops[-1][1]
        bench.each(broken, lease_s=0.8)
        # The letter is there before it is said, and what is said is what this is about.
        await bench.eventually(lambda: asyncio.sleep(0, any(" is a dead letter: " in line for line in said)))
    finally:
        logging.getLogger("nvp_agentkit").removeHandler(ears)
    ids = {"account": bench.account, "request": event.id, "trace": trace}
    for part in (" again in ", "failed on ", " was not ours any more", " is a dead letter: "):
        lines = [{**bound} for line, bound in said.items() if part in line]
        assert lines, part
        assert all(ids.items() <= line.items() for line in lines), part


async def test_what_was_given_back_is_no_killer_of_workers_and_comes_in_batches_again(bench):
    calls = []

    async def handle(deliveries):
        calls.append([delivery.attempt for delivery in deliveries])
        if min(calls[-1]) < 4:
            raise ComputeFailed("again")
        return [bench.answered(delivery) for delivery in deliveries]

    asked = [await bench.ask() for _ in range(12)]
    bench.start(handle, batch=12, lease_s=0.8)
    for event in asked:
        await bench.reply(event)
    assert sum(map(len, calls)) == 4 * 12
    assert len(calls) <= 2 * 4  # a sweep may find a batch half given back


async def test_what_was_given_back_twice_and_then_silenced_its_workers_is_said_so(bench):
    given_back = []

    async def handle(delivery):
        given_back.append(delivery.attempt)
        raise ComputeFailed("again")

    first = bench.consumer(one_by_one(handle), lease_s=0.8)
    stop = bench.run(first)
    event = await bench.ask()
    await bench.eventually(lambda: asyncio.sleep(0, len(given_back) == 2))
    stop.set()
    await bench.stops[-1][1]
    ((entry_id, _),) = await bench.redis.xrange(bench.stream)
    await bench.redis.xclaim(bench.stream, "inference", "crashed", 0, [entry_id], idle=60_000, retrycount=5)
    bench.start()
    detail = (await bench.reply(event, REFUSED)).data["detail"]
    assert detail == "delivered 5 times; the worker fell silent 3 times, and gave it back to be tried again 2 times"


async def test_a_message_that_silences_its_workers_is_given_up(bench):
    event = await bench.ask()
    await bench.redis.xreadgroup("inference", "crashed", {bench.stream: ">"})
    ((entry_id, _),) = await bench.redis.xrange(bench.stream)
    await bench.redis.xclaim(bench.stream, "inference", "crashed", 0, [entry_id], idle=60_000, retrycount=5)
    bench.start()
    assert "fell silent" in (await bench.reply(event, REFUSED)).data["detail"]
    assert len(await bench.dead()) == 1


async def test_what_may_be_tried_for_ever_is(bench):
    attempts = []

    async def handle(delivery):
        attempts.append(delivery.attempt)
        if delivery.attempt < 2002:
            raise ComputeFailed("again")
        return bench.answered(delivery)

    event = await bench.ask()
    await bench.redis.xreadgroup("inference", "crashed", {bench.stream: ">"})
    ((entry_id, _),) = await bench.redis.xrange(bench.stream)
    await bench.redis.xclaim(bench.stream, "inference", "crashed", 0, [entry_id], idle=60_000, retrycount=2000)
    bench.each(handle, max_deliveries=math.inf, lease_s=0.5)
    await bench.reply(event)
    assert attempts == [2001, 2002]


async def test_any_other_error_of_ours_is_an_answer_and_no_dead_letter(bench):
    async def handle(delivery):
        raise InsufficientJoules("account a: 5.0 J asked, 2.1 J left")

    bench.each(handle)
    event = await bench.ask()
    reply = await bench.reply(event, REFUSED)
    assert reply.data["code"] == "insufficient_joules"
    assert reply.data["detail"] == "account a: 5.0 J asked, 2.1 J left"
    assert await bench.dead() == []


async def test_a_defect_is_an_answer_and_a_dead_letter_and_the_worker_lives(bench):
    async def handle(delivery):
        return 1 / (0 if delivery.remaining_s < 100 else 1) and bench.answered(delivery)

    consumer = bench.each(handle)
    bad, good = await bench.ask(), await bench.ask(bench.request(within_s=1000))
    assert "ZeroDivisionError" in (await bench.reply(bad, REFUSED)).data["detail"]
    await bench.reply(good)
    assert len(await bench.dead()) == 1
    assert consumer.state == "ready"


async def test_one_bad_message_never_hurts_its_batch(bench):
    sizes = []

    async def handle(deliveries):
        sizes.append(len(deliveries))
        if any(delivery.remaining_s < 100 for delivery in deliveries):
            raise ValueError("cannot stack these")
        return [bench.answered(delivery) for delivery in deliveries]

    good = [await bench.ask(bench.request(within_s=1000)) for _ in range(3)]
    bad = await bench.ask()
    bench.start(handle, batch=4)
    for event in good:
        await bench.reply(event)
    assert "cannot stack these" in (await bench.reply(bad, REFUSED)).data["detail"]
    assert sizes == [4, 1, 1, 1, 1]


async def test_a_handler_that_forgets_a_message_is_a_defect_of_that_message_alone(bench):
    async def handle(deliveries):
        return [bench.answered(delivery) for delivery in deliveries if delivery.remaining_s > 100]

    good, bad = await bench.ask(bench.request(within_s=1000)), await bench.ask()
    bench.start(handle, batch=2)
    await bench.reply(good)
    assert "0 outcomes for 1 messages" in (await bench.reply(bad, REFUSED)).data["detail"]
