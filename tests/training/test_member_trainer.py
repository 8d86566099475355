from __future__ import annotations

from dataclasses import dataclass, field, replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from nvp_agentkit.errors import InvalidField, InvalidInput
from nvp_agentkit.fields.baselines import score_baselines
from nvp_agentkit.fields.scores import spread_skill
from nvp_agentkit.fields.sequence import SequenceSet
from nvp_agentkit.model import Calibration, model_bytes, predict_next, rollout, sample_next
from nvp_agentkit.model.novelty import novelty_of
from nvp_agentkit.model.state import initial_variables, pack, unpack
from nvp_agentkit.training import MemberConfig, MemberTrainer, Progress, StepPacer, TrainedModel, evaluate
from nvp_agentkit.training.checkpoint import first_checkpoint
from nvp_agentkit.training.evaluate import Forecasts, ahead, calibrated_ahead, coverage_by_activity, coverage_by_lead
from nvp_agentkit.training.examples import Batch, Examples, all_windows
from nvp_agentkit.training.member_trainer import LARGEST_SETBACKS
from nvp_agentkit.training.step import train_step

from .conftest import META, SMALL, drifting, masked, untrained, with_mask


def weights(trained) -> np.ndarray:
    return np.asarray(trained.state.weights)


@pytest.fixture(scope="module")
def trained(train, validation) -> TrainedModel:
    return MemberTrainer(SMALL).fit(train, validation, StepPacer(150))


@pytest.fixture(scope="module")
def unseen() -> SequenceSet:
    return drifting(3, seed=2)


def test_training_beats_persistence_on_trajectories_it_has_not_seen(trained, train, unseen):
    test = unseen
    baselines = score_baselines(train, test)
    score = evaluate(trained.bundle, test, baselines)
    assert score.vrmse < 0.5 * baselines["persistence"]
    assert trained.kept_step > 0
    assert score.skill == pytest.approx(1 - score.vrmse / min(baselines.values()))
    assert score.baseline in baselines


def restless(data: SequenceSet, seed: int) -> SequenceSet:
    """The first frame goes on, but half of its rows flicker, as nobody can foretell."""
    values = np.repeat(data.values[:, :1], data.frames, axis=1)
    values[..., 8:, :] += np.random.default_rng(seed).standard_normal(values[..., 8:, :].shape, np.float32)
    return SequenceSet(values, None, data.meta)


def test_where_it_doubts_more_it_errs_more(train, validation, unseen):
    hasty = replace(SMALL, variance_weight=1.0, learning_rate=0.01)
    bundle = MemberTrainer(hasty).fit(restless(train, 0), restless(validation, 1), StepPacer(120)).bundle
    told = Forecasts.of(bundle, restless(unseen, 2))
    missed = np.log(np.square(told.mean - told.came) + 1e-12)
    assert np.corrcoef(told.log_var.ravel(), missed.ravel())[0, 1] > 0.4


def test_intervals_hold_what_they_promise_at_every_lead_and_widen(trained, unseen):
    plain, known = replace(trained.bundle, calibration=Calibration()), drifting(100, seed=11)
    found = calibrated_ahead(plain, known, Forecasts.of(plain, known).calibration(), count=160)
    bundle = replace(plain, calibration=found)
    covered = coverage_by_lead(bundle, drifting(100, seed=12), count=160)
    assert sorted(covered) == [1, 2, 3, 4, 6]  # six steps follow a window, and no more
    for inside in covered.values():
        for level, share in inside.items():
            assert share == pytest.approx(level, abs=0.06)
    _, log_vars = rollout(bundle, unseen.values[:, :2], 8)
    sigma = np.exp(log_vars / 2).mean((0, 2, 3))
    assert (np.diff(sigma) > 0).all()


def test_a_calibration_looks_ahead_from_each_trajectory(trained):
    data = drifting(20, seed=3)
    told = ahead(trained.bundle, data)
    assert {len(one.came) for one in told.values()} == {32}
    for trajectory in range(20):
        assert any(np.array_equal(one, came) for came in told[2].came for one in data.values[trajectory])


def told_badly(share: float) -> Forecasts:
    """Of what is forecast, about a level of its own, ``share`` comes true."""
    rng = np.random.default_rng(0)
    mean, noise = rng.standard_normal((2, 12, 16, 16)).astype(np.float32)
    level = np.arange(12, dtype=np.float32)[:, None, None]
    came = level + np.float32(share) * mean + noise
    return Forecasts(mean + 2 * level, np.zeros_like(mean), came, np.ones(mean.shape, bool))


@pytest.mark.parametrize(("share", "kept"), [(0.4, 0.4), (1.3, 1.0), (-0.5, 0.0)])
def test_further_ahead_deviations_are_kept_as_far_as_they_come_true(share, kept):
    assert told_badly(share).calibration_ahead().kept == pytest.approx(kept, abs=0.05)


def test_what_nobody_observed_says_nothing_of_what_comes_true():
    told = told_badly(0.4)
    assert told.there is not None
    told.there[:, 3:6] = False
    told.there[5] = False
    spoiled = told._replace(came=np.where(told.there, told.came, np.float32(np.nan)), mean=told.mean.copy())
    spoiled.mean[5] = 1e6
    assert spoiled.calibration_ahead() == told.calibration_ahead()


def test_a_forecast_without_structure_is_kept_as_it_is():
    flat = told_badly(0.4)._replace(mean=np.ones((12, 16, 16), np.float32))
    assert flat.calibration_ahead().kept == 1


def test_coverage_is_told_apart_by_how_much_a_cell_just_changed(trained, unseen):
    deciles = coverage_by_activity(trained.bundle, unseen)
    told = Forecasts.of(trained.bundle, unseen)
    for level, inside in told.score(trained.bundle.calibration).coverage.items():
        assert len(deciles[level]) == 10
        assert np.mean(deciles[level]) == pytest.approx(inside, abs=1e-3)


def test_a_trained_model_knows_its_kind_of_field_from_another(trained, unseen):
    windows = unseen.values[:, :2]
    known = novelty_of(trained.bundle, windows)
    foreign = np.random.default_rng(0).permuted(windows.reshape(3, 2, -1), axis=2).reshape(windows.shape)
    assert novelty_of(trained.bundle, foreign).min() > 0.9 > known.mean()


@dataclass
class Purse:
    """Pays for ``coins`` steps, and remembers what it was asked and told."""

    coins: int
    story: list[str] = field(default_factory=list)

    def may_continue(self, step: int) -> bool:
        self.story.append(f"asked at {step}")
        return step < self.coins

    def fraction_used(self, step: int) -> float:
        return step / self.coins

    def told(self, progress: Progress) -> None:
        if progress.phase == "training":
            assert progress.loss is not None
            self.story.append(f"done {progress.step}")


def test_every_step_is_asked_for_and_none_follows_a_no(train, validation):
    purse = Purse(3)
    trained = MemberTrainer(SMALL).fit(train, validation, purse, purse.told)
    assert purse.story == ["asked at 0", "done 1", "asked at 1", "done 2", "asked at 2", "done 3", "asked at 3"]
    assert (trained.steps, trained.stopped_by) == (3, "pacer")


def test_no_allowance_gives_the_untrained_network_and_says_so(train, validation):
    trained = MemberTrainer(SMALL).fit(train, validation, StepPacer(0))
    assert (trained.steps, trained.kept_step) == (0, 0)
    untouched = replace(trained.bundle, variables=unpack(SMALL.model_config, trained.state.weights))
    frames = validation.values[:1, :2]
    np.testing.assert_array_equal(predict_next(trained.bundle, frames)[0], predict_next(untouched, frames)[0])


def test_max_steps_ends_a_run_that_could_go_on(train, validation):
    trained = MemberTrainer(replace(SMALL, max_steps=2)).fit(train, validation, StepPacer(50))
    assert (trained.steps, trained.stopped_by) == (2, "max_steps")


def test_progress_shows_skill_against_the_named_baseline(train, validation):
    told: list[Progress] = []
    trained = MemberTrainer(SMALL).fit(
        train, validation, StepPacer(4), told.append, baselines={"persistence": 0.5, "flow": 0.25}
    )
    scored = [progress for progress in told if progress.phase == "validating"]
    assert [progress.step for progress in scored] == [0, 2, 3, 4]
    assert {progress.baseline for progress in scored} == {"flow"}
    assert scored[0].skill == pytest.approx(1 - scored[0].vrmse / 0.25)
    assert trained.bundle.metrics["validation_skill"] == pytest.approx(max(progress.skill for progress in scored))


def test_the_weights_that_validated_best_are_kept():
    noise = np.random.default_rng(0).random((4, 6, 16, 16), np.float32)
    still = SequenceSet(np.repeat(noise[:, :1], 6, axis=1), None, META)  # persistence is perfect: nothing to gain
    spoiling = replace(SMALL, learning_rate=0.5, ema_decay=0.0)
    trained = MemberTrainer(spoiling).fit(SequenceSet(noise, None, META), still, StepPacer(6))
    assert trained.kept_step == 0
    assert trained.bundle.metrics["validation_vrmse"] < 1e-6


def test_the_same_recipe_gives_the_same_bytes(train, validation):
    first, again = (MemberTrainer(SMALL).fit(train, validation, StepPacer(5)) for _ in range(2))
    other = MemberTrainer(replace(SMALL, seed=1)).fit(train, validation, StepPacer(5))
    assert model_bytes(first.bundle) == model_bytes(again.bundle)
    assert not np.array_equal(weights(first), weights(other))


def test_a_run_compiles_its_step_once_and_another_one_nothing(train, validation):
    """Whatever seed, width and learning rate; over all that a run does, not the step alone."""
    config = replace(SMALL, batch_size=3)  # a shape that no other test has compiled
    others = [
        replace(config, seed=1),
        replace(config, features=(6, 5), learning_rate=1e-4, warmup_steps=0, max_steps=3, validations=2),
    ]
    compiled: list[str] = []
    jax.monitoring.register_event_duration_secs_listener(
        lambda name, _, **about: (
            compiled.append(str(about.get("fun_name"))) if name.endswith("backend_compile_duration") else None
        )
    )
    try:
        MemberTrainer(config).fit(train, validation, StepPacer(4))
        first = list(compiled)
        for other in others:
            MemberTrainer(other).fit(train, validation, StepPacer(4))
    finally:
        jax.monitoring.clear_event_listeners()
    assert sum("_step" in name for name in first) == 1, first
    assert compiled == first


def test_masked_cells_teach_nothing_and_cost_nothing(train, validation):
    config = with_mask(SMALL)
    clean, dirty = (
        MemberTrainer(config).fit(masked(train, fill), masked(validation, fill), StepPacer(4), baselines={"one": 1.0})
        for fill in (0.0, 1e6)
    )
    np.testing.assert_array_equal(weights(clean), weights(dirty))
    assert clean.bundle.metrics == dirty.bundle.metrics
    assert np.isfinite(weights(clean)).all()


def test_an_update_that_is_not_finite_is_not_applied():
    state = untrained()
    before = np.asarray(state.weights)
    cells = jnp.ones((4, 16, 16))
    two, six = (jnp.ones((4, 16, 16, channels)) for channels in (2, 6))
    batch = Batch(two, two, six, cells * jnp.nan, cells)
    after, loss = train_step(SMALL, state, batch, 1e-3, 1.0)
    assert np.isnan(loss)
    np.testing.assert_array_equal(after.weights, before)
    assert after.step == 1


def broken_in(steps: range) -> type[Examples]:
    """Examples whose targets are no numbers in these steps."""

    class Broken(Examples):
        def batch(self, seed: int, step: int, size: int) -> Batch:
            whole = super().batch(seed, step, size)
            learnt_from = step in steps and size == SMALL.batch_size  # more are looked at for a start
            return whole._replace(target=whole.target * np.nan) if learnt_from else whole

    return Broken


def test_a_run_that_breaks_goes_back_to_its_best_weights_and_says_so(train, validation):
    examples = broken_in(range(6, 7)).of(train, SMALL)
    told: list[Progress] = []
    config = replace(SMALL, max_steps=7, learning_rate=1e-3)
    trained = MemberTrainer(config).fit(train, validation, StepPacer(9), told.append, examples=examples)
    best = min((one for one in told if one.phase == "validating" and one.step < 7), key=lambda one: one.vrmse)
    assert best.step in (3, 6)
    assert [one.note for one in told if one.note] == [
        f"step 7 was not finite: back to the weights of step {best.step}, learning rate {config.learning_rate / 2:g}"
    ]
    run = trained.checkpoint
    assert (trained.steps, trained.stopped_by, run.setbacks, run.good.step) == (7, "max_steps", 1, best.step)
    for now, good in zip(jax.tree.leaves(run.state[1:]), jax.tree.leaves(run.good[1:]), strict=True):
        np.testing.assert_array_equal(now, good)
    assert run.state.step == 7  # the windows that broke it are not seen again


def test_after_a_setback_the_rate_is_half_of_what_it_was(train, validation):
    begun = first_checkpoint(SMALL, initial_variables(SMALL.model_config, 0))
    slow = replace(SMALL, learning_rate=SMALL.learning_rate / 2)
    halved = MemberTrainer(SMALL).fit(train, validation, StepPacer(2), resume=begun._replace(setbacks=jnp.array(1)))
    asked = MemberTrainer(slow).fit(train, validation, StepPacer(2), resume=begun)
    np.testing.assert_array_equal(weights(halved), weights(asked))


def test_a_run_that_only_breaks_ends_with_what_it_began_with(train, validation):
    examples = broken_in(range(1000)).of(train, SMALL)
    trained = MemberTrainer(SMALL).fit(train, validation, StepPacer(100), examples=examples)
    assert (trained.steps, trained.kept_step, trained.stopped_by) == (LARGEST_SETBACKS, 0, "not_finite")
    begun = MemberTrainer(SMALL).fit(train, validation, StepPacer(0))
    np.testing.assert_array_equal(weights(trained), weights(begun))


def test_weights_that_spoil_the_validation_leave_the_start_and_no_number_that_is_none(train, validation, monkeypatch):
    def spoilt(config, state, batch, rate, scale):
        return state._replace(step=state.step + 1, average=state.average * jnp.nan), jnp.float32(1)

    monkeypatch.setattr("nvp_agentkit.training.member_trainer.train_step", spoilt)
    trained = MemberTrainer(SMALL).fit(train, validation, StepPacer(4), baselines={"one": 1.0})
    assert (trained.steps, trained.kept_step) == (4, 0)
    assert trained.bundle.metrics["validation_vrmse"] < 1
    assert all(np.isfinite(list(trained.bundle.metrics.values())))
    told = [(one.vrmse, one.skill) for one in trained.history if one.step > 0]
    assert {number for both in told for number in both} == {None}


def test_a_model_says_how_it_was_made(train, validation):
    bundle = MemberTrainer(SMALL).fit(train, validation, StepPacer(1)).bundle
    assert bundle.domain == "drift"
    assert bundle.recipe["seed"] == SMALL.seed
    assert bundle.metrics["steps"] == 1
    assert bundle.metrics["validation_coverage_90"] == pytest.approx(0.9, abs=0.01)
    assert bundle.metrics["validation_budget_error_true"] > 1e-6
    assert "validation_budget_error_own" not in bundle.metrics  # nothing is known of an open domain's total
    assert pack(bundle.variables).size == bundle.parameters


def test_crops_train_a_network_that_keeps_the_total_of_the_whole_field_alone():
    train, validation = drifting(2, seed=0, side=32), drifting(1, seed=1, side=32)
    unbound = replace(SMALL, crop=24)
    config = replace(unbound, model_config=replace(SMALL.model_config, conservation="closed"))
    begun, trained = (MemberTrainer(config).fit(train, validation, StepPacer(steps)) for steps in (0, 1))
    examples, first = Examples.of(train, unbound), np.array(begun.state.weights)
    batch = examples.batch(config.seed, 0, config.batch_size)
    after, _ = train_step(unbound, begun.state, batch, config.learning_rate / 2, examples.step_variance)
    np.testing.assert_array_equal(trained.state.weights, after.weights)
    assert np.abs(after.weights - first).max() > 0
    assert trained.bundle.metrics["validation_budget_error_own"] < 1e-6
    assert trained.bundle.metrics["validation_budget_error_true"] < 1e-6  # periodic waves neither gain nor lose


def test_fields_of_another_grid_or_too_short_are_refused(train):
    with pytest.raises(InvalidField, match="grid"):
        MemberTrainer(SMALL).fit(train, drifting(2, 0, side=32), StepPacer(1))
    with pytest.raises(InvalidField, match="at least 3"):
        MemberTrainer(SMALL).fit(train, train.select(frames=slice(0, 2)), StepPacer(1))


@pytest.mark.parametrize(
    "wrong",
    [
        {"batch_size": 0},
        {"learning_rate": -1.0},
        {"learning_rate": float("inf")},
        {"ema_decay": 1.0},
        {"weight_decay": -1.0},
        {"crop": 8},
        {"validations": 0},
    ],
)
def test_a_recipe_out_of_range_is_named(wrong):
    with pytest.raises(InvalidInput, match=next(iter(wrong))):
        MemberConfig(**wrong)


def test_a_trained_member_is_sampled_with_the_spread_that_its_errors_have(trained, unseen):
    frames, _, came, _ = all_windows(unseen, 2)
    drawn = sample_next(trained.bundle, frames, 10, seed=0)
    mean, log_var = predict_next(trained.bundle, frames)
    by_cell = mean + np.exp(log_var / 2) * np.random.default_rng(0).standard_normal(drawn.shape, np.float32)
    errors = came - mean
    together, apart = (np.mean(one * np.roll(one, 1, -1)) / np.mean(one**2) for one in (drawn - mean, by_cell - mean))
    assert together == pytest.approx(np.mean(errors * np.roll(errors, 1, -1)) / np.mean(errors**2), abs=0.15)
    assert abs(apart) < 0.05 < together
    assert spread_skill(mean, np.log(drawn.var(0)), came) == pytest.approx(1, abs=0.3)
