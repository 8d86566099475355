"""A first forecast without training: by the forecaster that had the last frame right, and always a finite one."""

from __future__ import annotations

import numpy as np
import pytest

from nvp_agentkit.errors import UnknownModel
from nvp_agentkit.fields import FieldMeta, SequenceSet
from nvp_agentkit.fields.baselines import Glance
from nvp_agentkit.fields.first_forecast import NAMES, trivial_forecast
from nvp_agentkit.fields.metrics import rmse

y, x = np.mgrid[0:32, 0:32] * (2 * np.pi / 32)
PATTERN = np.sin(2 * x) * np.cos(y) + 0.5 * np.sin(3 * y)


def drifting(frames: int, gain: float = 1.0) -> np.ndarray:
    return np.stack([gain**t * np.roll(PATTERN, (t, -t), (0, 1)) for t in range(frames)]).astype(np.float32)


GROWING_IN_PLACE = np.stack([t * PATTERN for t in range(4, 8)]).astype(np.float32)
WANDERING = (PATTERN + 0.3 * np.random.default_rng(0).normal(size=(4, 32, 32)).cumsum(0)).astype(np.float32)


@pytest.mark.parametrize(
    ("frames", "names"),
    [
        # A share fitted on the last frame is never worse there than none: either is right about what only drifts.
        (drifting(4), {"advection", "lagrangian_increment"}),
        (drifting(4, gain=1.2), {"lagrangian_increment"}),
        (GROWING_IN_PLACE, {"linear_extrapolation"}),
        (WANDERING, {"persistence"}),
    ],
    ids=["drifts", "drifts and grows", "grows in place", "wanders"],
)
def test_with_three_frames_the_forecaster_that_fits_them_is_taken(frames: np.ndarray, names: set[str]) -> None:
    chosen = trivial_forecast(frames[:3])
    assert chosen.name in names
    np.testing.assert_array_equal(chosen.mean, trivial_forecast(frames[:3], chosen.name).mean)
    errors = [rmse(trivial_forecast(frames[:3], name).mean, frames[3]) for name in NAMES]
    assert rmse(chosen.mean, frames[3]) <= 1.05 * min(errors)


def test_its_uncertainty_is_what_the_last_frame_was_missed_by() -> None:
    frames = drifting(3, gain=1.3)
    for name in NAMES[:3]:
        meta = FieldMeta("", boundary=("periodic", "periodic"))
        missed = rmse(Glance.at(frames[:2], meta).forecasts(meta)[name], frames[2])
        assert np.exp(trivial_forecast(frames, name).log_var / 2) == pytest.approx(missed, rel=1e-3)


def test_two_frames_drift_on_with_the_last_step_as_uncertainty() -> None:
    frames = drifting(3)
    told = trivial_forecast(frames[:2])
    assert told.name == "advection"
    assert rmse(told.mean, frames[2]) < 0.2 * rmse(frames[1], frames[2])
    assert np.exp(told.log_var / 2) == pytest.approx(rmse(frames[0], frames[1]), rel=1e-5)


def test_one_frame_stays_with_its_own_variation_as_uncertainty() -> None:
    told = trivial_forecast(drifting(1))
    assert told.name == "persistence"
    np.testing.assert_allclose(told.mean, drifting(1)[0], atol=1e-6)
    assert np.exp(told.log_var / 2) == pytest.approx(drifting(1).std(), rel=1e-5)


def test_only_the_newest_three_frames_count() -> None:
    frames = drifting(5)
    longer = np.concatenate([np.full((3, 32, 32), 1e9, np.float32), frames[2:]])
    np.testing.assert_array_equal(trivial_forecast(longer).mean, trivial_forecast(frames).mean)


def test_what_is_never_below_zero_is_forecast_so() -> None:
    falling = np.maximum(GROWING_IN_PLACE[::-1] - 4, 0)
    assert trivial_forecast(falling, "linear_extrapolation").mean.min() == 0
    assert trivial_forecast(GROWING_IN_PLACE, "linear_extrapolation").mean.min() < 0


def test_what_leaves_over_an_edge_comes_back_only_where_the_field_goes_on_across_it() -> None:
    periodic = trivial_forecast(drifting(3), "advection").mean
    assert rmse(periodic, drifting(4)[3]) < 0.1
    high_in_the_east = np.tile(PATTERN, (1, 2)) + 0.5 * np.arange(64)
    moving_east = np.stack([high_in_the_east[:, s : s + 32] for s in (16, 14, 12)]).astype(np.float32)
    moved = trivial_forecast(moving_east, "advection").mean
    np.testing.assert_allclose(moved[:, 0], moving_east[-1, :, 0], atol=2)  # what left in the east is 15 higher


@pytest.mark.parametrize("shape", [(1, 16, 16), (2, 16, 31), (3, 16, 16), (3, 17, 90), (16, 16, 16)])
@pytest.mark.parametrize("scale", [0.0, 1e-44, 1.0, 3.4e38])
def test_any_shape_and_any_size_of_value_gives_finite_numbers(shape: tuple[int, ...], scale: float) -> None:
    frames = (scale * np.random.default_rng(0).uniform(-1, 1, shape)).astype(np.float32)
    for name in (None, *NAMES):
        told = trivial_forecast(frames, name)
        assert told.mean.shape == told.log_var.shape == shape[1:]
        assert told.mean.dtype == told.log_var.dtype == np.float32
        assert np.isfinite(told.mean).all()
        assert np.isfinite(told.log_var).all()


def test_a_field_that_stands_still_is_persistence_and_its_uncertainty_is_not_nothing() -> None:
    told = trivial_forecast(np.repeat(drifting(1), 3, axis=0))
    assert told.name == "persistence"
    assert np.exp(told.log_var / 2) == pytest.approx(1e-6 * np.abs(drifting(1)).max())


def test_a_forecaster_that_there_is_not_is_refused_naming_those_there_are() -> None:
    with pytest.raises(UnknownModel, match=r"'astrology'; there are persistence, linear_extrapolation, advection"):
        trivial_forecast(drifting(3), "astrology")


def test_on_plasma_turbulence_three_frames_find_the_forecaster_to_beat(turbulence: SequenceSet) -> None:
    frames = turbulence.values[0]
    windows = [(frames[t - 2 : t + 1], frames[t + 1]) for t in range(2, len(frames) - 1)]
    chosen = [(trivial_forecast(shown), shown, came) for shown, came in windows]
    assert [told.name for told, *_ in chosen].count("lagrangian_increment") >= 0.9 * len(chosen)
    missed, stayed = (np.mean([rmse(one, came) for one, came in pairs]) for pairs in (
        [(told.mean, came) for told, _, came in chosen], [(shown[-1], came) for _, shown, came in chosen]))  # fmt: skip
    assert missed < 0.5 * stayed
