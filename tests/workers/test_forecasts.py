"""One request, one forward, one answer; and every request that is told no before anything is computed."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from nvp_agentkit.artifacts import inline_array
from nvp_agentkit.errors import (
    BudgetTooSmall,
    ComputeFailed,
    DeadlineExceeded,
    DigestMismatch,
    InsufficientJoules,
    InvalidField,
    InvalidInput,
    NvpError,
    UnknownModel,
    UnknownName,
)
from nvp_agentkit.messages import ArrayRef, LineageRecorded, PredictionCompleted, PredictionRefused, Reading
from nvp_agentkit.settings import Settings
from nvp_agentkit.streams import Completion, names, register
from nvp_agentkit.workers import inference, refusals
from nvp_agentkit.workers.serving import registry
from nvp_agentkit.workers.serving.forecasting import ModelHost


async def completed(bench, models: ModelHost, request, **options) -> PredictionCompleted:
    answer = bench.said(await inference.answer(bench.delivery(request, **options), models, bench.system))
    assert isinstance(answer, PredictionCompleted)
    return answer


async def test_a_request_is_answered_with_mean_and_variance_paid_for_and_on_record(
    bench, models, weights, request_of, field: np.ndarray
) -> None:
    record = await bench.serve({"voter-0": weights(0)})
    delivery = bench.delivery(request_of())
    completion = await inference.answer(delivery, models, bench.system)
    answer = bench.said(completion)
    mean = await bench.system.artifacts.get_array(answer.mean)
    log_var = await bench.system.artifacts.get_array(answer.log_var)
    assert mean.shape == log_var.shape == field.shape[1:]
    assert np.abs(mean - field[-1]).max() < 1.0  # nobody trained it: persistence
    assert answer.model_id == record.champion.model_id
    assert answer.mean.units == "J"
    assert answer.ood is None  # it was told nothing of any training data
    balance = await bench.balance()
    assert (balance.spent_mj, balance.reserved_mj) == (answer.energy.mj, 0)
    assert 0 < answer.energy.mj < 5000
    assert completion.once == f"decided:{delivery.request_id}"
    (fact,) = completion.facts
    assert fact.deadline is None
    facts = fact.payload
    assert isinstance(facts, LineageRecorded)
    assert {edge.type for edge in facts.edges} == {"WAS_ATTRIBUTED_TO", "WAS_DERIVED_FROM", "METERED", "CHARGED_TO"}


async def test_an_answer_says_how_unlike_the_training_data_each_field_is(
    bench, models, weights, request_of, field: np.ndarray
) -> None:
    from nvp_agentkit.model.novelty import Novelty, descriptors

    fields = np.stack([field + np.float32(0.001 * n) for n in range(20)]).transpose(0, 2, 3, 1)
    known = descriptors(fields, np.ones_like(fields))
    await bench.serve({"voter-0": weights(0, novelty=Novelty.fit(known, known))})
    flickering = np.random.default_rng(0).random(field.shape, np.float32)
    asked = [request_of(field=inline_array(shown, "J")) for shown in (field, flickering)]
    like, unlike = await asyncio.gather(*(completed(bench, models, one) for one in asked))  # in one batch
    assert like.ood < 0.9 < unlike.ood == 20 / 21


async def test_an_answer_says_how_wide_its_intervals_were_on_held_out_data(bench, models, weights, request_of) -> None:
    from nvp_agentkit.model.bundle import Calibration

    await bench.serve({"voter-0": weights(0, calibration=Calibration(1.5, {0.5: 0.5, 0.9: 2.0, 0.95: 3.25}))})
    first, again = await asyncio.gather(*(completed(bench, models, request_of()) for _ in range(2)))
    assert first.widths == again.widths == {"50": 0.5, "90": 2.0, "95": 3.25}
    assert again.cached == first.request_id


async def test_a_quorum_is_not_answered_with_one_models_word(bench, models, weights, request_of) -> None:
    await bench.serve({"voter-0": weights(0)})
    with pytest.raises(InvalidInput, match="asks for a quorum, which forms on the stream `ensemble`"):
        await completed(bench, models, request_of(assurance="quorum"))


async def test_what_was_paid_before_the_answer_was_no_is_on_record(bench, request_of) -> None:
    late = DeadlineExceeded("late")
    late.energy = Reading(mj=7, lo_mj=5, hi_mj=9, method="modelled", sensor="cpu-time")
    (fact,) = refusals.prediction(bench.system, bench.delivery(request_of()), late).facts
    nodes = {node.label: node.properties for node in fact.payload.nodes}
    assert (nodes["EnergyReading"]["mj"], nodes["EnergyReading"]["phase"]) == (7, "predict")
    assert {edge.type for edge in fact.payload.edges} == {"WAS_ATTRIBUTED_TO", "METERED", "CHARGED_TO"}


async def test_units_are_the_ensembles_and_a_field_in_others_is_refused(
    bench, models, weights, request_of, field
) -> None:
    await bench.serve({f"voter-{seed}": weights(seed) for seed in range(3)})
    unsaid = await completed(bench, models, request_of(field=inline_array(field)))
    assert unsaid.mean.units == "J"
    with pytest.raises(InvalidField, match="field in 'kelvin', and the ensemble of plasma_physics learnt it in 'J'"):
        await completed(bench, models, request_of(field=inline_array(field, "kelvin")))


@pytest.mark.parametrize(("units", "said"), [("x" * 57, f"ln ({'x' * 57})^2"), ("x" * 64, "ln (units of the mean)^2")])
async def test_units_may_be_as_long_as_a_request_allows(bench, models, request_of, field, units, said) -> None:
    answer = await completed(bench, models, request_of(field=inline_array(field, units), model="trivial"))
    assert (answer.mean.units, answer.log_var.units) == (units, said)


async def test_an_answer_comes_inline_where_that_is_asked_for_and_it_is_small(
    bench, models, weights, request_of, field, monkeypatch: pytest.MonkeyPatch
) -> None:
    await bench.serve({"voter-0": weights(0)})
    artifacts = bench.system.artifacts
    by_reference = await completed(bench, models, request_of())
    inline = await completed(bench, models, request_of(inline_answer=True))
    monkeypatch.setattr(inference, "INLINE_BYTES", 4 * field[0].size - 1)
    large = await completed(bench, models, request_of(inline_answer=True))
    for name in ("mean", "log_var"):
        carried, kept = getattr(inline, name), getattr(by_reference, name)
        assert carried.uri is None
        assert kept.inline is None
        assert getattr(large, name) == kept
        np.testing.assert_array_equal(await artifacts.get_array(carried), await artifacts.get_array(kept))


BAD: dict[str, tuple[Callable[..., ArrayRef], type[NvpError], str]] = {
    "NaN": (lambda raw, field: raw(np.where(field > 2, np.nan, field)), InvalidField, "NaN, infinite or beyond"),
    "infinity": (lambda raw, field: raw(np.where(field > 2, np.inf, field)), InvalidField, "NaN, infinite or beyond"),
    "a line": (lambda raw, field: raw(field[0, 0]), InvalidField, "one frame (H, W) or several (K, H, W)"),
    "a batch": (lambda raw, field: raw(field[None]), InvalidField, "one frame (H, W) or several (K, H, W)"),
    "too small a side": (lambda raw, field: raw(field[:, :8]), InvalidField, "at least 16"),
    "too many frames": (lambda raw, field: raw(np.zeros((17, 16, 16))), InvalidField, "send 1 to 16"),
    "a promise of 100,000 x 100,000": (
        lambda raw, field: raw(field, shape=(100_000, 100_000)), InvalidField, "10,000,000,000 cells, limit"),
    "other bytes": (lambda raw, field: raw(field, digest=f"sha256:{'0' * 64}"), DigestMismatch, "put them again"),
    "fewer bytes": (lambda raw, field: raw(field, shape=(2, 32, 33)), InvalidField, "takes"),
    "no base64": (lambda raw, field: raw(field, inline="*" * 10924), InvalidField, "no base64"),
    "nothing there": (
        lambda raw, field: raw(field, inline=None, digest=f"sha256:{'a' * 64}", uri=f"artifact:sha256/aa/{'a' * 62}"),
        UnknownName, "never put here or was removed"),
    "a path": (lambda raw, field: raw(field, inline=None, uri="file:///etc/passwd"), InvalidInput, "is no artifact"),
}  # fmt: skip


@pytest.mark.usefixtures("own_child")
@pytest.mark.parametrize("what", BAD)
async def test_a_bad_field_is_refused_in_words_before_anything_is_computed_or_charged(
    bench, models, weights, request_of, raw_array, field: np.ndarray, what: str
) -> None:
    await bench.serve({"voter-0": weights(0)})
    make, error, words = BAD[what]
    delivery = bench.delivery(request_of(field=make(raw_array, field)))
    with pytest.raises(error) as caught:
        await inference.answer(delivery, models, bench.system)
    assert words in str(caught.value)
    assert bench.system.child.pid is None
    assert await bench.system.ledger.grant(bench.account, delivery.request_id) is None
    refused = bench.said(refusals.prediction(bench.system, delivery, caught.value))
    assert isinstance(refused, PredictionRefused)
    assert (refused.code, refused.detail) == (caught.value.code, str(caught.value))


async def test_an_unknown_domain_or_model_is_refused_with_what_there_is(bench, models, weights, request_of) -> None:
    record = await bench.serve({"voter-0": weights(0)})
    with pytest.raises(UnknownModel, match="has no model for 'alchemy'; train one"):
        await completed(bench, models, request_of(domain="alchemy"))
    with pytest.raises(UnknownModel, match=f"in service: {record.champion.model_id}"):
        await completed(bench, models, request_of(model="model:sha256:nobodys"))


async def test_a_request_without_a_budget_is_refused(bench, models, weights, request_of) -> None:
    await bench.serve({"voter-0": weights(0)})
    with pytest.raises(InvalidInput, match="no budget: every published request says what it may cost"):
        await completed(bench, models, request_of(), budget_mj=None)


async def test_who_cannot_pay_is_told_the_figures(bench, models, weights, request_of) -> None:
    await bench.serve({"voter-0": weights(0)})
    with pytest.raises(InsufficientJoules, match=r"2,000\.0 J asked, 1,000\.0 J left"):
        await completed(bench, models, request_of(), budget_mj=2_000_000)
    with pytest.raises(BudgetTooSmall, match="a forecast of 32x32 takes about") as caught:
        await completed(bench, models, request_of(), budget_mj=1)
    assert caught.value.needed_mj > 1
    assert (await bench.balance()).spent_mj == 0


async def test_requests_of_one_moment_share_a_forward_and_one_bad_one_does_not_hurt_them(
    bench, models, weights, request_of, raw_array, field: np.ndarray
) -> None:
    await bench.serve({"voter-0": weights(0)})
    bad = request_of(field=raw_array(field * np.nan))
    first, second, refused = await asyncio.gather(
        completed(bench, models, request_of()),
        completed(bench, models, request_of(field=inline_array(field + np.float32(1.0), "J"))),
        completed(bench, models, bad),
        return_exceptions=True,
    )
    assert isinstance(refused, InvalidField)
    assert first.energy == second.energy  # each half of one bill
    assert first.mean.digest != second.mean.digest


async def test_a_model_named_by_its_id_answers(bench, models, weights, request_of) -> None:
    record = await bench.serve({f"voter-{seed}": weights(seed) for seed in range(3)})
    asked = record.members[1].model_id
    assert (await completed(bench, models, request_of(model=asked), budget_mj=30_000)).model_id == asked


@pytest.mark.usefixtures("own_child")
async def test_a_killed_child_is_replaced_and_its_models_come_back(bench, models, weights, request_of) -> None:
    await bench.serve({"voter-0": weights(0)})
    before = await completed(bench, models, request_of())
    os.kill(bench.system.child.pid, signal.SIGKILL)
    try:
        after = await completed(bench, models, request_of())
    except ComputeFailed:  # it died with this request in hand: retryable, and the consumer asks again
        after = await completed(bench, models, request_of())
    assert bench.system.child.generation == 2
    assert after.mean.digest == before.mean.digest


def wide(columns: int) -> ArrayRef:
    """A field of a shape that no ensemble has learnt."""
    return inline_array(np.ones((2, 16, columns), np.float32), "J")


@pytest.mark.usefixtures("own_child")
async def test_a_shape_nobody_learnt_has_a_price_that_is_asked_before_anything_is_loaded(
    bench, models, weights, request_of
) -> None:
    await bench.serve({"voter-0": weights(0)})
    with pytest.raises(BudgetTooSmall, match=r"a forecast of 16x48 takes about 24\.\d+ J") as caught:
        await completed(bench, models, request_of(field=wide(48)))
    assert bench.system.child.pid is None
    assert (await bench.balance()).spent_mj == 0
    advised_mj = 3 * caught.value.needed_mj  # what compiling takes is a guess, and more beside other tests
    first = await completed(bench, models, request_of(field=wide(48)), budget_mj=advised_mj)
    again = await completed(bench, models, request_of(field=wide(48)))
    assert first.energy.mj > 2 * again.energy.mj  # who came first has paid for the compilation
    balance = await bench.balance()
    assert (balance.spent_mj, balance.reserved_mj) == (first.energy.mj + again.energy.mj, 0)


async def test_frames_older_than_a_model_looks_at_are_no_shape_of_their_own(
    bench, models, weights, request_of, field: np.ndarray
) -> None:
    await bench.serve({"voter-0": weights(0)})
    longer = np.concatenate([field[:1], field[:1], field])
    told = [await completed(bench, models, request_of(field=inline_array(one, "J"))) for one in (field, longer)]
    assert told[0].mean.digest == told[1].mean.digest


@pytest.mark.usefixtures("own_child")
async def test_a_deadline_that_cannot_be_met_is_refused_and_the_child_of_all_others_lives(
    bench, models, weights, request_of
) -> None:
    await bench.serve({"voter-0": weights(0)})
    await completed(bench, models, request_of())
    with pytest.raises(DeadlineExceeded, match=r"s left, a forecast of 32x32 takes about .*; allow more time"):
        await completed(bench, models, request_of(), within_s=0.0)
    with pytest.raises(DeadlineExceeded, match=r"a forecast of 16x80, made ready first, takes about 6\.0"):
        await completed(bench, models, request_of(field=wide(80)), within_s=2.0, budget_mj=30_000)
    assert (await bench.balance()).reserved_mj == 0
    assert bench.system.child.generation == 1


def spoil(settings: Settings, digest: str) -> None:
    """Flip a bit of an object on disk."""
    name = digest.removeprefix("sha256:")
    path = Path(str(settings.artifacts_url)) / "sha256" / name[:2] / name[2:]
    raw = bytearray(path.read_bytes())
    raw[-1] ^= 1
    path.chmod(0o600)
    path.write_bytes(raw)


async def test_weights_that_are_not_what_was_registered_are_our_trouble_and_not_the_askers(
    bench, models, weights, request_of
) -> None:
    record = await bench.serve({"voter-0": weights(0)})
    spoil(bench.system.settings, record.champion.weights.digest)
    with pytest.raises(NvpError, match=r"voter-0 cannot load model:sha256:.* put them again") as caught:
        await completed(bench, models, request_of())
    assert type(caught.value) is NvpError
    assert (await bench.balance()).spent_mj == 0


async def test_a_model_that_forecasts_no_numbers_gives_no_answer(bench, models, weights, request_of) -> None:
    await bench.serve({"voter-0": weights(0, offset=3.3e38), "voter-1": weights(1)})
    with pytest.raises(NvpError, match="forecast values that are not finite"):
        await completed(bench, models, request_of(field=inline_array(np.full((2, 32, 32), -3.3e38, np.float32))))


async def test_models_are_ready_before_they_are_asked_and_a_broken_ensemble_is_its_accounts_trouble(
    bench, models, weights, redis
) -> None:
    other, third = f"{bench.account}-other", f"{bench.account}-third"
    await register(redis, other, owner="tests")
    await redis.hset(names.ACCOUNTS, third, "{}")
    await redis.set(names.key(third, registry.SUFFIX), "no hash")
    await bench.serve({"voter-0": weights(0)})
    fields = ((registry.SUFFIX, "plasma_physics", "{no record"),)
    await type(bench)(bench.system, other).complete(Completion(fields=fields))
    stop = asyncio.Event()
    keeping = asyncio.create_task(models.keep_ready(stop))
    async with asyncio.timeout(60):
        while models.readiness() != ("ready", "1 model, 2 broken"):
            await asyncio.wait({keeping}, timeout=0.02)
    stop.set()
    await keeping
    await redis.hdel(names.ACCOUNTS, other, third)
    for account in (other, third):
        await redis.delete(*[key async for key in redis.scan_iter(match=f"nvp:{{{account}}}:*")])
