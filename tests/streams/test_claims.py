"""A request published twice: redis-py resends what it got no answer to, and an agent may try what it costs."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime

import pytest

from nvp_agentkit.messages import JobCancelRequested, PredictionRequested
from nvp_agentkit.streams import Completion, dead_letters, names, publish

ANSWERED = "nvp.prediction.abstained.v1"
REFUSED = "nvp.prediction.refused.v1"


@pytest.mark.parametrize("batch", [1, 8])
async def test_a_request_that_arrives_twice_is_worked_on_and_answered_once(bench, batch):
    runs = []

    async def handle(delivery):
        runs.append(delivery.entry_id)
        return bench.answered(delivery)

    event = await bench.ask()
    for _ in range(2):
        await bench.ask(event)
    consumer = bench.each(handle, batch=batch)
    await bench.eventually(lambda: asyncio.sleep(0, consumer.counts["done"] == 3))
    assert await bench.idle()
    assert len(runs) == 1
    assert len(await bench.replies(event)) == 1


async def test_each_group_works_on_the_first_entry_and_nobody_on_one_that_repeats_it_on_another_stream(bench):
    seen = []

    async def handle(delivery):
        seen.append(delivery.stream)
        return bench.answered(delivery)

    event = await bench.ask()
    bench.each(handle)
    await bench.reply(event)
    for asked in (event, bench.request()):
        await publish(bench.redis, bench.account, "ensemble", asked)
    for voter in names.GROUPS["ensemble"]:
        bench.each(handle, kind="ensemble", group=voter)
    ensemble = names.key(bench.account, "ensemble")

    async def done():
        return await bench.redis.xlen(ensemble) == 0

    await bench.eventually(done)
    assert seen == [bench.stream, *[ensemble] * len(names.GROUPS["ensemble"])]


async def test_an_id_used_again_for_something_else_is_a_dead_letter_and_the_first_is_answered(bench):
    first = await bench.ask()
    later = first.model_copy(update={"time": datetime.now(UTC)})
    other = first.model_copy(update={"data": {**first.data, "domain": "heat_diffusion"}})
    for event in (later, other):
        await bench.ask(event)
    runs = []

    async def handle(delivery):
        runs.append(delivery.payload.domain)
        return bench.answered(delivery)

    consumer = bench.each(handle)
    await bench.eventually(lambda: asyncio.sleep(0, consumer.counts["dead"] == 1 and consumer.counts["done"] == 2))
    assert runs == ["plasma_physics"]
    assert await bench.replies(first) == [ANSWERED.encode()]
    (letter,) = await bench.dead()
    assert letter.raw == {b"event": other.encode()}
    assert f"id {first.id} was used before to ask for something else" in letter.reason


async def test_what_stands_where_a_claim_would_harms_that_request_alone(bench):
    event, neighbour = await bench.ask(), await bench.ask()
    key = names.claim(bench.account, event.id)
    await bench.redis.lpush(key, "no claim")
    await bench.redis.expire(key, 60)
    bench.start(batch=2)
    await bench.reply(neighbour)
    await bench.eventually(bench.idle)
    (letter,) = await bench.dead()
    assert letter.raw == {b"event": event.encode()}


async def test_a_request_that_came_to_the_wrong_stream_is_answered_where_it_belongs_and_only_there(bench):
    def silently(delivery, error):
        return Completion()

    wrong = bench.start(kind="cancel", group="training", accepts=[JobCancelRequested], refuse=silently)
    event = bench.request()
    await publish(bench.redis, bench.account, "cancel", event)
    await bench.eventually(lambda: asyncio.sleep(0, wrong.counts["dead"] == 1))
    bench.start(accepts=[PredictionRequested])
    await bench.reply(await bench.ask(event))
    await publish(bench.redis, bench.account, "cancel", event)
    await bench.eventually(lambda: asyncio.sleep(0, wrong.counts["dead"] == 2))
    letters = await dead_letters(bench.redis, bench.account, "cancel")
    assert ["does not belong on this stream" in letter.reason for letter in letters] == [True, True]
    assert await bench.replies(event) == [ANSWERED.encode()]


async def test_a_copy_that_is_read_after_the_deadline_gets_no_answer_of_its_own(bench):
    consumer = bench.start()
    event = await bench.ask(bench.request(within_s=0.5))
    await bench.reply(event)
    await bench.eventually(lambda: asyncio.sleep(0, event.deadline < datetime.now(UTC)))
    await bench.ask(event)
    await bench.eventually(lambda: asyncio.sleep(0, consumer.counts["done"] == 2))
    assert await bench.replies(event) == [ANSWERED.encode()]


async def test_the_claim_of_a_far_deadline_ends_all_the_same(bench):
    far = bench.request(within_s=None).model_copy(update={"deadline": datetime(9999, 1, 1, tzinfo=UTC)})
    bench.start()
    await bench.ask(far)
    await bench.reply(far, REFUSED)
    assert await bench.redis.ttl(names.claim(bench.account, far.id)) < 31 * 86_400


async def test_a_claim_outlives_the_deadline(bench):
    event = await bench.ask(bench.request(within_s=7200))
    bench.start()
    await bench.reply(event)
    assert await bench.redis.ttl(names.claim(bench.account, event.id)) > 7200


async def test_what_may_be_handled_twice_is(bench):
    runs = []

    async def handle(delivery):
        runs.append(delivery.entry_id)
        return bench.answered(delivery)

    event = await bench.ask()
    await bench.ask(event)
    bench.each(handle, unique=False)
    await bench.eventually(bench.idle)
    assert len(runs) == 2
