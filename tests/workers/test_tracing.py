"""One request is one trace, through every process that had it in hand; a batch is linked to all that is in it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from opentelemetry import trace
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from structlog.contextvars import get_contextvars

from nvp_agentkit.lineage.graph import Graph
from nvp_agentkit.messages import LineageRecorded, PredictionCertified, PredictionRequested, VoteCast
from nvp_agentkit.messages.envelope import TYPE_OF
from nvp_agentkit.observability import tracing
from nvp_agentkit.streams import Completion, Delivery, ReplyReader, names, publish
from nvp_agentkit.workers import process, recorder, refusals, shadow, tally
from nvp_agentkit.workers.process import Role, run_roles

ASKED = "00-" + "ab" * 16 + "-" + "cd" * 8 + "-01"


@pytest.fixture
def spans(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[str], list[ReadableSpan]]]:
    """``spans(name)``: those that have ended, of this test alone."""
    exporter = InMemorySpanExporter()
    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    monkeypatch.setattr(trace, "_TRACER_PROVIDER", provider)
    yield lambda name: [one for one in exporter.get_finished_spans() if one.name == name]
    provider.shutdown()


def parent_of(span: ReadableSpan) -> int:
    assert span.parent is not None
    return span.parent.span_id


def ids(spans: list[ReadableSpan]) -> set[int]:
    return {span.context.span_id for span in spans}


def linked(spans: list[ReadableSpan]) -> set[int]:
    return {link.context.span_id for span in spans for link in span.links}


async def test_one_request_is_followed_through_three_voters_the_tally_and_the_recorder(
    bench, court, seated, request_of, settings, spans
) -> None:
    await seated()
    stop, counts = asyncio.Event(), tally.Tally(bench.system)
    async with Graph.connect(settings) as graph, ReplyReader(bench.system.redis, bench.account) as replies:
        roles = [
            *(shadow.role(host, bench.system) for host in court.hosts.values()),
            Role.each("ensemble", "tally", PredictionRequested, counts.open, tally.refuse),
            Role.each("votes", "tally", VoteCast, counts.count, tally.forget, unique=False),
            Role(
                "lineage", "recorder", LineageRecorded, recorder.Recorder(graph).record, recorder.refuse, unique=False
            ),
        ]
        working = asyncio.create_task(run_roles(bench.system, stop, roles))
        event = bench.delivery(request_of(assurance="quorum"), suffix="ensemble", budget_mj=60_000).event
        await publish(bench.system.redis, bench.account, "ensemble", event)
        reply = await replies.wait(event.id, [TYPE_OF[PredictionCertified]], timeout_s=60)
        async with asyncio.timeout(30):
            for suffix in ("ensemble", "votes", "lineage"):
                while await bench.system.redis.xlen(names.key(bench.account, suffix)):  # noqa: ASYNC110  it is in Redis
                    await asyncio.sleep(0.02)
        stop.set()
        await working
    (published,) = spans("publish ensemble")
    answers, counted = spans("answer ensemble"), spans("answer votes")
    assert len(answers) == 4  # three voters and the tally, which puts it on file
    assert {one.attributes["messaging.consumer.group.name"] for one in answers} == {*court.hosts, "tally"}
    assert {parent_of(one) for one in answers} == ids([published])
    voters = [one for one in answers if one.attributes["messaging.consumer.group.name"] != "tally"]
    assert {parent_of(one) for one in counted} == ids(voters)
    assert {one.context.trace_id for one in (published, *answers, *counted)} == {published.context.trace_id}
    assert tracing.trace_id(reply.traceparent) == f"{published.context.trace_id:032x}"
    assert int(reply.traceparent.split("-")[2], 16) in ids(counted)
    recorded = linked(spans("process lineage"))
    assert ids(voters) <= recorded
    assert recorded & ids(counted)
    assert spans("process ensemble") == spans("process votes") == []  # of one message each, which says nothing more


async def test_a_batch_is_linked_to_each_of_its_messages_and_says_what_went_wrong(bench, request_of, spans) -> None:
    async def fails(deliveries: list[Delivery]) -> Any:
        raise ZeroDivisionError

    role = Role("predict", "inference", PredictionRequested, fails, refusals.prediction)
    asked = [bench.delivery(request_of()) for _ in range(3)]
    for k, delivery in enumerate(asked):
        said = f"00-{k + 1:032x}-{k + 1:016x}-01"
        delivery.event = delivery.event.model_copy(update={"traceparent": said})
    with pytest.raises(ZeroDivisionError):
        await process._traced(role)(asked)
    (span,) = spans("process predict")
    assert [link.context.span_id for link in span.links] == [1, 2, 3]
    assert span.attributes["nvp.messages"] == 3
    assert span.status.status_code is trace.StatusCode.ERROR


@pytest.mark.parametrize(
    "said", [None, "", "00-x", ASKED.upper(), "00-" + "0" * 32 + "-" + "0" * 16 + "-01", "\x1b[2J", ASKED + "-00"]
)
def test_what_is_no_traceparent_is_no_parent(spans, said) -> None:
    with tracing.span("a", "CONSUMER", parent=said, links=[said]):
        pass
    (span,) = spans("a")
    assert (span.parent, list(span.links)) == (None, [])


async def test_without_a_tracer_a_message_keeps_what_it_came_with_and_the_log_has_its_ids(bench, request_of) -> None:
    seen: list[tuple[dict[str, Any], str | None]] = []

    async def tells(delivery: Delivery) -> Completion:
        seen.append((get_contextvars(), bench.system.fact(LineageRecorded(), delivery).traceparent))
        return Completion()

    for suffix, what in (("predict", "request"), ("jobs", "job")):
        delivery = bench.delivery(request_of(), suffix=suffix)
        delivery.event = delivery.event.model_copy(update={"traceparent": ASKED})
        await Role.each(suffix, "g", PredictionRequested, tells, refusals.prediction).handle([delivery])
        bound, sent = seen.pop()
        assert bound == {"account": bench.account, what: delivery.request_id, "trace": "ab" * 16}
        assert sent == ASKED
    assert tracing.current() is None
