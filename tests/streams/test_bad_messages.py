"""One bad entry is dead-lettered with its reason at once; its neighbours never notice."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from nvp_agentkit.messages import Event, JobProgressed, PredictionRequested, new_event

REFUSED = "nvp.prediction.refused.v1"


async def test_a_request_is_answered_and_then_forgotten(bench):
    consumer = bench.start()
    event = await bench.ask()
    assert (await bench.reply(event)).replyto == event.id
    await bench.eventually(bench.idle)
    assert await bench.pending() == 0
    assert consumer.state == "ready"


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({b"event": b"\xff\xfe\x00garbage"}, "not a CloudEvents 1.0 event"),
        ({b"event": b"{}"}, "not a CloudEvents 1.0 event"),
        ({b"\xffnoise": b"\x00"}, "no field b'event'"),
        ({b"field-%d" % i: b"x" for i in range(9000)}, "no field b'event'"),
        ({b"event": b" " * (5 * 1024 * 1024)}, "event of 5242880 bytes"),
        ({b"field-%d" % i: b"x" * 20_000 for i in range(9)}, "no field b'event'"),
    ],
    ids=["bytes", "no event", "other field", "nine thousand fields", "five megabytes", "many large fields"],
)
async def test_garbage_is_dead_lettered_with_its_reason_and_neighbours_are_unharmed(bench, fields, reason):
    before = await bench.ask()
    await bench.redis.xadd(bench.stream, fields)
    after = await bench.ask()
    consumer = bench.start(batch=8)
    await bench.reply(before)
    await bench.reply(after)
    (letter,) = await bench.eventually(bench.dead)
    assert reason in letter.reason
    assert letter.worker == consumer.name
    assert set(letter.raw) <= set(fields)
    assert 0 < sum(len(name) + len(value) for name, value in letter.raw.items()) <= 65_536
    await bench.eventually(bench.idle)


async def test_an_event_of_a_hundred_megabytes_is_a_dead_letter_and_its_neighbours_are_unharmed(bench):
    before = await bench.ask()
    await bench.redis.xadd(bench.stream, {"event": b" " * 100_000_000})
    after = await bench.ask()
    bench.start(batch=16)
    await bench.reply(before)
    await bench.reply(after)
    (letter,) = await bench.eventually(bench.dead)
    assert "event of 100000000 bytes, limit 4194304; send arrays by reference" in letter.reason
    await bench.eventually(bench.idle)


async def test_a_deadline_beyond_what_anything_is_kept_for_is_refused(bench):
    event = await bench.ask(bench.request(within_s=40 * 86_400))
    bench.start()
    refused = await bench.reply(event, REFUSED)
    assert refused.data["code"] == "invalid_input"
    assert "at most 30 days from now" in refused.data["detail"]


async def test_an_unknown_type_is_dead_lettered_and_refused(bench):
    event = Event(id="r-1", source="agent", type="nvp.nonsense.v9", time=datetime.now(UTC), data={})
    bench.start()
    await bench.ask(event)
    assert (await bench.reply(event, REFUSED)).data["code"] == "invalid_message"
    (letter,) = await bench.dead()
    assert "unknown event type 'nvp.nonsense.v9'" in letter.reason
    assert letter.raw == {b"event": event.encode()}


async def test_a_body_that_does_not_fit_its_type_is_refused_with_the_field_at_fault(bench):
    event = bench.request().model_copy(update={"data": {"domain": "NOT A DOMAIN"}})
    bench.start()
    await bench.ask(event)
    assert "domain" in (await bench.reply(event, REFUSED)).data["detail"]
    assert len(await bench.dead()) == 1


async def test_a_known_type_on_the_wrong_stream_is_refused(bench):
    progress = JobProgressed(job_id="j", phase="train", step=1, used_mj=0, granted_mj=1, method="modelled")
    event = new_event(progress, source="agent", id="r-2")
    bench.start(accepts=[PredictionRequested])
    await bench.ask(event)
    assert "which takes PredictionRequested" in (await bench.reply(event, REFUSED)).data["detail"]


async def test_a_deadline_that_passed_is_refused_before_any_work(bench):
    worked = []

    async def handle(delivery):
        worked.append(delivery)
        return bench.answered(delivery)

    late = await bench.ask(bench.request().model_copy(update={"deadline": datetime.now(UTC) - timedelta(seconds=9)}))
    bench.each(handle)
    assert (await bench.reply(late, REFUSED)).data["code"] == "deadline_exceeded"
    assert worked == []
    assert await bench.dead() == []


async def test_a_refusal_that_fails_still_ends_the_message(bench):
    def broken(delivery, error):
        return bench.refused(delivery.payload, error)  # an unknown type has no payload: this raises

    bench.start(refuse=broken)
    await bench.ask(Event(id="r-3", source="agent", type="nvp.nonsense.v9", time=datetime.now(UTC), data={}))
    assert len(await bench.eventually(bench.dead)) == 1
    await bench.eventually(bench.idle)
