"""Trivial forecasters behind the network's signature."""

import numpy as np
import pytest

from nvp_agentkit.errors import InvalidField
from nvp_agentkit.fields import SequenceSet
from nvp_agentkit.fields.baselines import NAMES, score_baselines
from nvp_agentkit.fields.forecasters import TrivialForecaster, rollout, trivial_forecasters
from nvp_agentkit.fields.metrics import vrmse

from .test_baselines import drifting

TRAIN, TEST = drifting(6), drifting(7)


@pytest.fixture(scope="module")
def forecasters() -> dict[str, TrivialForecaster]:
    return {one.name: one for one in trivial_forecasters(TRAIN)}


def windows(data: SequenceSet) -> tuple[np.ndarray, np.ndarray]:
    (frames,) = data.values
    shown = np.stack([frames[t : t + 2] for t in range(len(frames) - 2)])
    return shown, frames[2:]


def test_each_forecasts_what_it_is_scored_for(forecasters) -> None:
    shown, came = windows(TEST)
    told = {name: one.predict_next(shown)[0] for name, one in forecasters.items()}
    assert tuple(told) == NAMES
    assert {name: vrmse(maps, came) for name, maps in told.items()} == pytest.approx(score_baselines(TRAIN, TEST))


def test_doubt_is_what_was_missed_in_training(forecasters) -> None:
    shown, came = windows(TRAIN)
    for one in forecasters.values():
        mean, log_var = one.predict_next(shown)
        assert log_var.shape == mean.shape == came.shape
        assert np.exp(log_var / 2) == pytest.approx(np.full(came.shape, np.sqrt(np.mean((mean - came) ** 2))), rel=1e-3)


def test_what_is_not_observed_is_not_looked_at(forecasters) -> None:
    shown, _ = windows(TEST)
    mask = np.ones(shown.shape, bool)
    mask[:, :, 10:14, 10:14] = False
    rubbish = np.where(mask, shown, np.float32(1e6))
    for one in forecasters.values():
        told = one.predict_next(rubbish, mask)[0]
        assert np.abs(told).max() < 10 * np.abs(shown).max()
        np.testing.assert_array_equal(told, one.predict_next(np.where(mask, shown, np.float32(np.nan)))[0])


def test_a_rollout_follows_what_drifts_and_doubts_more_with_every_step(forecasters) -> None:
    frames = TEST.values[:, :2]
    means, log_vars = rollout(forecasters["advection"], frames, 4)
    assert means.shape == log_vars.shape == (1, 4, 48, 48)
    assert vrmse(means[0], TEST.values[0, 2:6]) < 0.2 * vrmse(np.repeat(frames[0, 1:], 4, 0), TEST.values[0, 2:6])
    assert (np.diff(log_vars, axis=1) > 0).all()
    np.testing.assert_allclose(np.exp(log_vars[:, 3]), 4 * np.exp(log_vars[:, 0]), rtol=1e-5)


def test_the_first_step_of_a_rollout_is_the_forecast(forecasters) -> None:
    frames = TEST.values[:, :2]
    for one in forecasters.values():
        np.testing.assert_array_equal(rollout(one, frames, 1)[0][:, 0], one.predict_next(frames)[0])


@pytest.mark.parametrize(
    ("frames", "match"),
    [(np.ones((2, 48, 48)), "B, K, H, W"), (np.ones((1, 2, 32, 48)), "fitted on"), (np.ones((0, 2, 48, 48)), "B, K")],
)
def test_frames_that_cannot_be_meant_are_refused(forecasters, frames, match) -> None:
    with pytest.raises(InvalidField, match=match):
        forecasters["climatology"].predict_next(frames)


def test_sequences_that_teach_nothing_are_refused() -> None:
    unseen = SequenceSet(TRAIN.values, np.zeros(TRAIN.values.shape, bool), TRAIN.meta)
    for nothing in (drifting(2), unseen):
        with pytest.raises(InvalidField, match="none observed after two others"):
            trivial_forecasters(nothing)


def test_a_rollout_of_no_step_is_refused(forecasters) -> None:
    with pytest.raises(InvalidField, match="at least 1"):
        rollout(forecasters["persistence"], TEST.values[:, :2], 0)
