"""Anything may be on a stream. Each message is looked at alone, and whoever asked in good form is answered."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from typing import Any

import pytest

from nvp_agentkit.messages import JobRefused, JobRequested, PredictionRefused, PredictionRequested, SimulateSpec
from nvp_agentkit.messages.envelope import TYPE_OF
from nvp_agentkit.streams import ReplyReader, dead_letters, names
from nvp_agentkit.workers import inference, refusals, training
from nvp_agentkit.workers.process import Role, run_roles
from nvp_agentkit.workers.serving.forecasting import ModelHost


@asynccontextmanager
async def at_work(bench) -> AsyncIterator[None]:
    """The front of an inference and of a training worker: what is refused never reaches a compute child."""
    models = ModelHost("voter-0", bench.system)
    forecasts = partial(inference.answer, models=models, system=bench.system)
    jobs = partial(training.answer, system=bench.system)
    roles = [
        Role.each("predict", "inference", PredictionRequested, forecasts, refusals.prediction),
        Role.each("jobs", "training", JobRequested, jobs, refusals.job),
    ]
    stop = asyncio.Event()
    running = asyncio.create_task(run_roles(bench.system, stop, roles))
    yield
    stop.set()
    await running
    assert bench.system.child.pid is None


@pytest.fixture
async def working(bench, own_child) -> AsyncIterator[None]:
    async with at_work(bench):
        yield


async def put(bench, raw: bytes, suffix: str = "predict", field: str = "event") -> None:
    await bench.system.redis.xadd(names.key(bench.account, suffix), {field: raw})


async def answer(bench, request_id: str, kind: type) -> Any:
    async with ReplyReader(bench.system.redis, bench.account) as replies:
        return (await replies.wait(request_id, [TYPE_OF[kind]], timeout_s=20)).payload


def altered(request: Any, **data: Any) -> bytes:
    """The request's bytes with another body, as a client in another language may send them."""
    plain = json.loads(request.event.encode())
    plain["data"] |= data
    return json.dumps(plain).encode()


async def test_garbage_and_unknown_events_are_dead_letters_with_a_reason_and_their_neighbours_are_answered(
    bench, working, request_of
) -> None:
    unknown = json.loads(bench.delivery(request_of()).event.encode()) | {"type": "nvp.tea.requested.v1", "id": "tea"}
    misplaced = bench.delivery(JobRequested(spec=SimulateSpec(domain="alchemy"))).event
    neighbour = bench.delivery(request_of(domain="alchemy", model="gold")).event
    await put(bench, b"\xff\x00 garbage")
    await put(bench, b"{}")
    await put(bench, b"nothing we read", field="note")
    await put(bench, json.dumps(unknown).encode())
    await put(bench, misplaced.encode())
    await put(bench, neighbour.encode())
    assert (await answer(bench, neighbour.id, PredictionRefused)).code == "unknown_model"
    assert "unknown event type 'nvp.tea.requested.v1'" in (await answer(bench, "tea", PredictionRefused)).detail
    assert "does not belong on this stream" in (await answer(bench, misplaced.id, PredictionRefused)).detail
    letters = await dead_letters(bench.system.redis, bench.account, "predict")
    reasons = [letter.reason for letter in reversed(letters)]
    assert len(reasons) == 5
    for reason, words in zip(reasons, ("not a CloudEvents", "not a CloudEvents", "no field b'event'", "unknown event",
                                       "does not belong"), strict=True):  # fmt: skip
        assert words in reason
    assert letters[-1].raw == {b"event": b"\xff\x00 garbage"}


@pytest.mark.parametrize(
    ("data", "words"),
    [
        ({"domain": "../etc"}, "domain"),
        ({"assurance": "absolute"}, "assurance"),
        ({"field": {"shape": [0, 0]}}, "shape"),
        ({"field": {"dtype": "object"}}, "dtype"),
        ({"field": {"shape": [16, 16, 16, 16, 16]}}, "shape"),
        ({"field": {"digest": "sha256:short"}}, "digest"),
        ({"field": {"uri": "artifact:x"}}, "exactly one"),
        ({"field": None}, "field"),
    ],
)
async def test_a_body_that_does_not_fit_is_refused_by_the_part_that_is_wrong(
    bench, working, request_of, data: dict[str, Any], words: str
) -> None:
    asked = bench.delivery(request_of())
    if isinstance(data.get("field"), dict):
        data = {"field": json.loads(asked.event.encode())["data"]["field"] | data["field"]}
    await put(bench, altered(asked, **data))
    refused = await answer(bench, asked.request_id, PredictionRefused)
    assert refused.code == "invalid_message"
    assert words in refused.detail


@pytest.mark.parametrize("budget", ["-5", "0", "1e3", "a lot", "99999999999999999999"])
async def test_a_budget_that_is_none_makes_no_event(bench, working, request_of, budget: str) -> None:
    asked = bench.delivery(request_of()).event
    await put(bench, json.dumps(json.loads(asked.encode()) | {"budgetmj": budget}).encode())
    async with asyncio.timeout(20):
        while not (letters := await dead_letters(bench.system.redis, bench.account, "predict")):  # noqa: ASYNC110
            await asyncio.sleep(0.02)
    assert "budgetmj" in letters[0].reason


async def test_no_budget_at_all_is_answered(bench, working, request_of) -> None:
    asked = bench.delivery(request_of(domain="alchemy", model="gold"), budget_mj=None).event
    await put(bench, asked.encode())
    assert (await answer(bench, asked.id, PredictionRefused)).code == "unknown_model"
    job = bench.simulation(budget_mj=None).event
    await put(bench, job.encode(), "jobs")
    assert "no budget" in (await answer(bench, job.id, JobRefused)).detail


async def test_a_flood_past_the_door_is_answered_with_when_to_ask_again_and_costs_no_joules_and_no_facts(
    bench, own_child, request_of, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("nvp_agentkit.streams.door.FLOODED", 1)
    asked = [bench.delivery(request_of(domain="alchemy", model="gold")).event for _ in range(2)]
    jobs = [bench.simulation(budget_mj=budget_mj).event for budget_mj in (60_000, None)]
    for suffix, events in (("predict", asked), ("jobs", jobs)):
        for event in events:
            await put(bench, event.encode(), suffix)
        await bench.system.redis.xadd(names.key(bench.account, suffix), {"event": b"nonsense"})
    async with at_work(bench):
        for event, kind in ((asked[0], PredictionRefused), (jobs[0], JobRefused)):
            refused = await answer(bench, event.id, kind)
            assert (refused.code, refused.retry_after_s) == ("account_full", 5.0)
        assert (await answer(bench, asked[1].id, PredictionRefused)).code == "unknown_model"
        assert (await answer(bench, jobs[1].id, JobRefused)).code == "invalid_input"
    assert (await bench.balance()).spent_mj == 0
    assert await bench.system.redis.xlen(names.key(bench.account, "lineage")) == 2  # of those that were no flood


async def test_a_request_that_comes_after_its_deadline_is_told_so(bench, working, request_of) -> None:
    late = bench.delivery(request_of(), within_s=-5.0).event
    await put(bench, late.encode())
    refused = await answer(bench, late.id, PredictionRefused)
    assert refused.code == "deadline_exceeded"
    assert "before work began" in refused.detail
    assert (await bench.balance()).spent_mj == 0
