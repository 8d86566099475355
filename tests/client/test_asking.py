"""Asking for forecasts: what is refused before anything is sent, and how every answer comes back."""

from __future__ import annotations

import asyncio
import time
from typing import Any

import numpy as np
import pytest

from nvp_agentkit.artifacts import Artifacts
from nvp_agentkit.client import AgentClient
from nvp_agentkit.errors import (
    BudgetTooSmall,
    ConflictingFact,
    DeadlineExceeded,
    DigestMismatch,
    InsufficientJoules,
    InvalidField,
    InvalidInput,
    NvpError,
    QuorumAbstained,
    StoreUnavailable,
    UnknownModel,
    UnknownName,
)
from nvp_agentkit.messages import (
    PredictionAbstained,
    PredictionCompleted,
    PredictionRefused,
    Reading,
    new_event,
)
from nvp_agentkit.settings import Settings
from nvp_agentkit.streams import Completion, Consumer, Delivery, Refuse

READING = Reading(mj=12, lo_mj=5, hi_mj=30, method="modelled", sensor="cpu-time")

FIELDS: dict[str, tuple[Any, str]] = {
    "NaN": (np.full((16, 16), np.nan), "256 values of 256 that are NaN"),
    "infinity": (np.full((16, 16), np.inf), "NaN, infinite or beyond float32"),
    "beyond float32": (np.full((16, 16), 1e300), "beyond float32"),
    "0 x 0": (np.zeros((0, 0)), "0 x 0 cells: each side must be at least 16"),
    "a line": (np.zeros(400), "(H, W)"),
    "a batch": (np.zeros((1, 2, 16, 16)), "(H, W)"),
    "too small": (np.zeros((15, 400)), "at least 16"),
    "too many frames": (np.zeros((17, 16, 16)), "send 1 to 16"),
    "complex": (np.zeros((16, 16), complex), "dtype complex128"),
    "text": (np.full((16, 16), "x"), "send real numbers"),
    "objects": (np.full((16, 16), None), "dtype object"),
    "ragged": ([[1.0] * 16] * 15 + [[1.0]], "rows of equal length"),
    "100,000 x 100,000": (np.broadcast_to(np.float32(0), (100_000, 100_000)), "10,000,000,000 cells, limit"),
}


@pytest.mark.parametrize("what", FIELDS)
async def test_a_field_that_cannot_be_forecast_is_refused_here_and_nothing_is_sent(nvp, desk, what: str) -> None:
    field, words = FIELDS[what]
    with pytest.raises(InvalidField) as caught:
        await nvp.predict(field, domain="plasma_physics", budget_j=5)
    assert words in str(caught.value)
    assert await desk.sent() == 0


@pytest.mark.parametrize("budget_j", [None, 0, -5, float("nan"), float("inf"), 1e-9, 1e300, "5", True])
async def test_a_budget_that_is_none_is_refused_here_at_every_door(nvp, desk, field, tmp_path, budget_j: Any) -> None:
    file = tmp_path / "field.npy"
    np.save(file, np.ones((4, 16, 16), np.float32))
    ref = await nvp.artifacts.put(b"data")
    for attempt in (
        nvp.predict(field, domain="plasma_physics", budget_j=budget_j),
        nvp.simulate("plasma_physics", budget_j=budget_j),
        nvp.import_file(file, domain="mine", budget_j=budget_j),
        nvp.train("plasma_physics", data=ref, budget_j=budget_j),
    ):
        with pytest.raises(InvalidInput, match="budget"):
            await attempt
    assert await desk.sent() == 0


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda nvp, field: nvp.predict(field, domain="../etc", budget_j=5), "domain='../etc'"),
        (lambda nvp, field: nvp.predict(field, domain="x", budget_j=5, assurance="absolute"), "assurance='absolute'"),
        (lambda nvp, field: nvp.predict(field, domain="x", budget_j=5, units="m" * 65), "units"),
        (lambda nvp, field: nvp.predict(field, domain="x", budget_j=5, deadline_s=-1), "deadline_s=-1"),
        (lambda nvp, field: nvp.predict(field, domain="x", budget_j=5, deadline_s=float("nan")), "deadline_s=nan"),
        (lambda nvp, field: nvp.predict(field, domain="x", budget_j=5, assurance="quorum", model="m"), "quorum"),
        (lambda nvp, field: nvp.simulate("x", budget_j=5, trajectories=0), "trajectories=0"),
        (lambda nvp, field: nvp.simulate("x", budget_j=5, colour=1), "colour=1"),
        (lambda nvp, field: nvp.import_file("no/such/file.npz", domain="x", budget_j=5), "No such file"),
    ],
)
async def test_words_out_of_range_are_refused_here_naming_them(nvp, desk, field, call, words: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        await call(nvp, field)
    assert words in str(caught.value)
    assert await desk.sent() == 0


@pytest.mark.parametrize("error", [InsufficientJoules, BudgetTooSmall, UnknownModel, InvalidField, DigestMismatch])
async def test_a_refusal_comes_back_as_the_class_that_it_was(nvp, desk, field, error: type[NvpError]) -> None:
    asking = asyncio.create_task(nvp.predict(field, domain="plasma_physics", budget_j=5))
    await desk.reply_to_next(PredictionRefused, code=error.code, detail="in so many words")
    with pytest.raises(error, match="in so many words"):
        await asking


async def test_a_refusal_that_may_pass_says_when_to_ask_again(nvp, desk, field) -> None:
    asking = asyncio.create_task(nvp.predict(field, domain="plasma_physics", budget_j=5))
    told = {"code": StoreUnavailable.code, "detail": "the graph is away", "retry_after_s": 7.5}
    await desk.reply_to_next(PredictionRefused, **told)
    with pytest.raises(StoreUnavailable) as caught:
        await asking
    assert caught.value.retry_after_s == 7.5
    assert UnknownModel.retry_after_s is None


async def test_a_refusal_of_a_newer_server_is_still_an_error(nvp, desk, field) -> None:
    asking = asyncio.create_task(nvp.predict(field, domain="plasma_physics", budget_j=5))
    await desk.reply_to_next(PredictionRefused, code="out_of_season", detail="come back in spring")
    with pytest.raises(NvpError, match="come back in spring"):
        await asking


async def test_an_abstention_says_who_differed(nvp, desk, field) -> None:
    asking = asyncio.create_task(nvp.predict(field, domain="plasma_physics", budget_j=5, assurance="quorum"))
    await desk.reply_to_next(PredictionAbstained, "ensemble", reason="voter-2 is 9 spreads from voter-0")
    with pytest.raises(QuorumAbstained, match="voter-2 is 9 spreads"):
        await asking


async def test_a_forecast_is_the_arrays_that_were_named_and_no_others(nvp, desk, field) -> None:
    mean, log_var = field[-1] + 1, np.full((16, 16), -2.0, np.float32)
    refs = [await nvp.artifacts.put_array(array, "J") for array in (mean, log_var)]
    asking = asyncio.create_task(nvp.predict(field, domain="plasma_physics", budget_j=5))
    model = "model:sha256:x"
    answer = {"model_id": model, "mean": refs[0], "log_var": refs[1], "energy": READING, "ood": 0.97}
    asked = await desk.reply_to_next(PredictionCompleted, **answer)
    forecast = await asking
    assert (forecast.ood, forecast.unfamiliar) == (0.97, True)
    np.testing.assert_array_equal(forecast.mean, mean)
    np.testing.assert_allclose(forecast.std, np.exp(-1.0), rtol=1e-6)
    assert (forecast.request_id, forecast.units, forecast.assurance) == (asked, "J", "single")
    assert forecast.trained
    assert "0.01 J modelled" in str(forecast)

    lie = refs[0].model_copy(update={"digest": refs[1].digest})
    asking = asyncio.create_task(nvp.predict(field, domain="plasma_physics", budget_j=5))
    await desk.redis.xtrim(f"nvp:{{{desk.account}}}:predict", maxlen=0)
    await desk.reply_to_next(PredictionCompleted, model_id=model, mean=lie, log_var=refs[1], energy=READING)
    with pytest.raises(DigestMismatch):
        await asking


async def test_a_forecast_that_no_training_is_behind_says_so(nvp, desk, field) -> None:
    ref = await nvp.artifacts.put_array(field[-1])
    asking = asyncio.create_task(nvp.predict(field, domain="weather", model="trivial", budget_j=5))
    assert (await desk.received()).payload.model == "trivial"
    answer = {"model_id": "trivial:advection", "mean": ref, "log_var": ref, "energy": READING}
    await desk.reply_to_next(PredictionCompleted, **answer)
    forecast = await asking
    assert not forecast.trained
    assert (forecast.ood, forecast.unfamiliar) == (None, False)
    assert "by trivial:advection, not calibrated, 0.01 J modelled" in str(forecast)


async def test_what_is_published_says_what_it_may_cost_and_how_long_it_is_worth(nvp, desk, field) -> None:
    asking = asyncio.create_task(nvp.predict(field, domain="plasma_physics", budget_j=5.25, deadline_s=30))
    asked = await desk.received()
    assert asked.budget_mj == 5250
    assert asked.deadline is not None
    assert 29 < (asked.deadline - asked.time).total_seconds() <= 30
    assert asked.source == f"nvp:agent:{desk.account}"
    assert desk.account not in str(asked.data)  # whose request it is, the stream says
    await desk.answer(PredictionRefused(request_id=asked.id, code="internal", detail="enough"), asked.id)
    with pytest.raises(NvpError, match="enough"):
        await asking


async def test_a_forecast_not_waited_for_long_enough_is_waited_for_again_by_its_id(nvp, desk, field) -> None:
    ref = await nvp.artifacts.put_array(field[-1])
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.3):  # the caller's patience is shorter than the request's
            await nvp.predict(field, domain="plasma_physics", budget_j=5, request_id="q-1")
    with pytest.raises(DeadlineExceeded) as caught:
        await nvp.result("q-1", deadline_s=0.1)
    assert caught.value.request_id == "q-1"
    await desk.reply_to_next(PredictionCompleted, model_id="m", mean=ref, log_var=ref, energy=READING)
    forecast = await nvp.result("q-1")
    assert (forecast.request_id, forecast.domain) == ("q-1", "plasma_physics")
    np.testing.assert_array_equal(forecast.mean, field[-1])
    assert await desk.sent() == 1
    with pytest.raises(UnknownName, match="request_id"):
        await nvp.result("q-1")


async def test_a_late_answer_is_found_by_the_id_that_the_error_has(nvp, desk, field) -> None:
    with pytest.raises(DeadlineExceeded) as caught:
        await nvp.predict(field, domain="plasma_physics", budget_j=5, deadline_s=0.1)
    asked = await desk.received()
    assert caught.value.request_id == asked.id
    await desk.answer(PredictionRefused(request_id=asked.id, code="deadline_exceeded", detail="too late"), asked.id)
    with pytest.raises(DeadlineExceeded, match="too late"):
        await nvp.result(asked.id)


async def test_the_same_question_with_the_same_id_is_worked_on_once_and_another_is_refused(nvp, desk, field) -> None:
    async def answer(deliveries: list[Delivery]) -> list[Completion]:
        asked.extend(deliveries)
        told = [PredictionRefused(request_id=one.request_id, code="internal", detail="done") for one in deliveries]
        return [Completion(replies=(new_event(one, source="w", replyto=one.request_id),)) for one in told]

    asked: list[Delivery] = []
    refuse: Refuse = lambda *_: Completion()  # noqa: E731
    consumer = Consumer(
        desk.redis, kind="predict", group="inference", name="w", handle=answer, refuse=refuse, lease_s=2.0
    )
    stop = asyncio.Event()
    working = asyncio.create_task(consumer.run(stop))
    for _ in range(2):
        with pytest.raises(NvpError, match="done"):
            await nvp.predict(field, domain="plasma_physics", budget_j=5, request_id="q-1")
    with pytest.raises(ConflictingFact, match="'q-1' was used before") as caught:
        await nvp.predict(field + 1, domain="plasma_physics", budget_j=5, request_id="q-1")
    assert caught.value.request_id == "q-1"
    stop.set()
    await working
    assert [one.request_id for one in asked] == ["q-1"]
    for bad in ("", "x" * 129):
        with pytest.raises(InvalidInput, match="give 1 to 128"):
            await nvp.predict(field, domain="plasma_physics", budget_j=5, request_id=bad)


async def test_an_artifact_store_that_is_silent_holds_nobody_past_the_deadline(
    desk, settings: Settings, field, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await over.wait()
        writer.close()

    over = asyncio.Event()
    server = await asyncio.start_server(silent, "127.0.0.1", 0)
    for name, value in {
        "AWS_ENDPOINT_URL": f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}", "AWS_REGION": "x",
        "AWS_ACCESS_KEY_ID": "x", "AWS_SECRET_ACCESS_KEY": "x",
    }.items():  # fmt: skip
        monkeypatch.setenv(name, value)
    there = await Artifacts("memory://").put_array(field[-1])
    at = settings.model_copy(update={"artifacts_url": "s3://bucket"})
    async with AgentClient.connect(desk.account, settings=at) as nvp:
        began = time.monotonic()
        asking = asyncio.create_task(nvp.predict(field, domain="plasma_physics", budget_j=5, deadline_s=1.0))
        await desk.reply_to_next(PredictionCompleted, model_id="m", mean=there, log_var=there, energy=READING)
        with pytest.raises(StoreUnavailable, match="did not answer within"):
            await asking
        assert time.monotonic() - began < 5
    over.set()
    server.close()
    await server.wait_closed()


async def test_large_fields_travel_by_reference(nvp: AgentClient, desk) -> None:
    field = np.ones((2, 64, 64), np.float32)
    asking = asyncio.create_task(nvp.predict(field, domain="plasma_physics", budget_j=5))
    request = (await desk.received()).payload
    assert request.field.inline is None
    np.testing.assert_array_equal(await nvp.artifacts.get_array(request.field), field)
    await desk.reply_to_next(PredictionRefused, code="internal", detail="enough")
    with pytest.raises(NvpError, match="enough"):
        await asking
