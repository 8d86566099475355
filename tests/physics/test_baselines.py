"""The trivial forecasters where their answer is known, and the honesty of their scores."""

import cv2
import numpy as np
import pytest

from nvp_agentkit.errors import InvalidField
from nvp_agentkit.fields import FieldMeta, SequenceSet, split
from nvp_agentkit.fields.advection import advect, departure, sample
from nvp_agentkit.fields.baselines import NAMES, Fit, Glance, Seen, best, fitted_share, score_baselines
from nvp_agentkit.fields.masking import fill_invalid
from nvp_agentkit.fields.metrics import vrmse

PERIODIC = FieldMeta("test", boundary=("periodic", "periodic"))


def blobs(side: int = 48) -> np.ndarray:
    """Smooth periodic texture."""
    spectrum = np.fft.rfft2(np.random.default_rng(0).normal(size=(side, side)))
    y, x = np.fft.fftfreq(side, 1 / side)[:, None], np.arange(side // 2 + 1)[None, :]
    field = np.fft.irfft2(spectrum * np.exp(-(x**2 + y**2) / 30), s=(side, side))
    return (field / field.std()).astype(np.float32)


def drifting(frames: int, gain: float = 1.0, trajectories: int = 1) -> SequenceSet:
    """The texture moves 2 cells down and 1 left a frame, and is multiplied by ``gain``."""
    moved = [gain**t * np.roll(blobs(), (2 * t, -t), (0, 1)) for t in range(frames)]
    values = np.repeat(np.stack(moved)[None], trajectories, axis=0).astype(np.float32)
    return SequenceSet(values, None, PERIODIC)


def test_advection_follows_what_drifts_also_across_the_edge() -> None:
    scores = score_baselines(drifting(6), drifting(6))
    assert scores["advection"] < 0.1 * scores["persistence"]
    assert scores["advection"] < 0.1 * scores["linear_extrapolation"]


def test_the_lagrangian_increment_learns_that_what_grew_grows_on() -> None:
    data = drifting(6, gain=1.3)
    scores = score_baselines(data, data)
    assert best(scores) == "lagrangian_increment"
    assert scores["lagrangian_increment"] < 0.5 * scores["advection"]
    (frames,) = data.values
    seen = [Seen(Glance.at(frames[t - 1 : t + 1], PERIODIC), frames[t + 1], None) for t in range(1, 5)]
    assert fitted_share(seen) == pytest.approx(1.3, abs=0.1)


def test_linear_extrapolation_is_exact_on_a_ramp_and_never_below_zero_where_nothing_can_be() -> None:
    ramp = np.stack([blobs(), 0.5 * blobs()])
    told = Glance.at(ramp, PERIODIC).forecasts(PERIODIC)["linear_extrapolation"]
    np.testing.assert_allclose(told, 0 * blobs(), atol=1e-6)
    positive = FieldMeta("test", positive=True)
    falling = np.stack([np.full((16, 16), 3, np.float32), np.full((16, 16), 1, np.float32)])
    assert Glance.at(falling, positive).forecasts(positive)["linear_extrapolation"].min() == 0


def test_what_turns_is_followed_along_its_circle() -> None:
    angle, middle = 12.0, (23.5, 23.5)
    frames = [
        cv2.warpAffine(blobs(), cv2.getRotationMatrix2D(middle, turn * angle, 1.0), (48, 48), flags=cv2.INTER_CUBIC)
        for turn in range(3)
    ]
    y, x = np.mgrid[:48, :48] - 23.5
    inside = x**2 + y**2 < 16**2
    moved = advect(frames[0], frames[1], ("open", "open")).value
    assert vrmse(moved, frames[2], inside) < 0.2 * vrmse(frames[1], frames[2], inside)


def test_the_way_back_is_that_of_the_flow_half_way() -> None:
    x = np.arange(48, dtype=np.float32) - 24
    flow = np.zeros((48, 48, 2), np.float32)
    flow[..., 0] = 0.2 * x  # D = 0.2 (x + D / 2) has the solution 0.2 x / 0.9
    np.testing.assert_allclose(
        departure(flow, ("open", "open"))[:, 8:40, 0], np.tile(0.2 * x / 0.9, (48, 1))[:, 8:40], atol=0.02
    )


def test_nothing_moves_out_of_a_field_that_stands_still() -> None:
    moved = advect(blobs(), blobs(), ("periodic", "periodic"))
    np.testing.assert_allclose(moved.value, blobs(), atol=1e-6)
    np.testing.assert_allclose(moved.increment, 0, atol=1e-6)


def test_a_displacement_beyond_an_open_edge_takes_the_value_at_the_edge() -> None:
    far = np.zeros((48, 48, 2), np.float32)
    far[..., 0] = -500
    np.testing.assert_allclose(sample(blobs(), far, ("open", "open")), np.repeat(blobs()[:, :1], 48, 1), atol=1e-5)


def test_a_side_longer_than_opencv_counts_stands_still() -> None:
    long = np.random.default_rng(0).random((2, 16, 2**15)).astype(np.float32)
    moved = advect(long[0], long[1], ("open", "open"))
    np.testing.assert_array_equal(moved.value, long[1])
    np.testing.assert_array_equal(moved.increment, long[1] - long[0])


def test_one_frame_of_context_stands_still_for_all_who_look_at_motion() -> None:
    scores = score_baselines(drifting(4), drifting(4), context=1)
    still = ("persistence", "linear_extrapolation", "advection", "lagrangian_increment")
    assert {scores[name] for name in still} == {scores["persistence"]}


def relaxing(frames: int) -> SequenceSet:
    """Every trajectory returns to one map, by a fifth of what is left each frame, and starts somewhere else."""
    starts = np.random.default_rng(3).normal(size=(6, 1, 48, 48))
    values = blobs() + starts * 0.8 ** np.arange(frames)[None, :, None, None]
    return SequenceSet(values.astype(np.float32), None, PERIODIC)


def test_damped_persistence_learns_how_much_of_a_departure_lasts() -> None:
    data = relaxing(8)
    fit = Fit.on(data.select(trajectories=slice(0, 5)))
    assert fit.damping == pytest.approx(0.8, abs=0.05)
    np.testing.assert_allclose(fit.climatology, data.values[:5].mean((0, 1)), atol=1e-6)
    scores = score_baselines(data.select(trajectories=slice(0, 5)), data.select(trajectories=slice(5, 6)))
    assert scores["damped_persistence"] < 0.9 * min(scores["persistence"], scores["climatology"])


def test_climatology_is_of_what_was_observed() -> None:
    clean = relaxing(8)
    mask = np.random.default_rng(4).random(clean.values.shape) > 0.3
    rubbish = np.where(mask, clean.values, np.float32(1e4))
    climatology = Fit.on(SequenceSet(rubbish, mask, PERIODIC)).climatology
    assert climatology is not None
    assert np.abs(climatology - clean.values.mean((0, 1))).max() < 1


def test_unobserved_cells_are_neither_shown_nor_scored() -> None:
    clean = drifting(6)
    mask = np.random.default_rng(2).random(clean.values.shape) > 0.2
    rubbish = np.where(mask, clean.values, np.float32(1e4))
    scores = score_baselines(SequenceSet(rubbish, mask, PERIODIC), SequenceSet(rubbish, mask, PERIODIC))
    assert scores["advection"] < 0.6 * scores["persistence"]
    assert scores["persistence"] < 1.2 * score_baselines(clean, clean)["persistence"]


def test_filling_keeps_what_was_observed_and_looks_only_back() -> None:
    frames, mask = drifting(3).values[0] + np.float32(10), np.ones((3, 48, 48), bool)
    mask[1, 5, 5] = mask[0, 10:30, 10:30] = False
    filled = fill_invalid(frames, mask)
    np.testing.assert_array_equal(filled[mask], frames[mask])
    assert filled[1, 5, 5] == frames[0, 5, 5]
    assert frames[0].min() <= filled[0].min() <= filled[0].max() <= frames[0].max()  # as around the hole, not 0
    later = frames.copy()
    later[2] += 7
    np.testing.assert_array_equal(fill_invalid(later, mask)[:2], filled[:2])


def test_a_frame_that_nobody_observed_stands_for_the_one_before_or_for_nothing() -> None:
    frames, mask = drifting(3).values[0], np.ones((3, 48, 48), bool)
    frames[0], mask[0], mask[2] = np.nan, False, False
    filled = fill_invalid(frames, mask)
    np.testing.assert_array_equal(filled[2], frames[1])
    assert not filled[0].any()


def test_a_test_set_without_a_window_is_refused() -> None:
    with pytest.raises(InvalidField, match="bring a longer sequence"):
        score_baselines(drifting(6), drifting(2))


def test_on_plasma_turbulence_the_lagrangian_increment_is_the_one_to_beat(turbulence: SequenceSet) -> None:
    parts = split(turbulence)
    scores = score_baselines(parts.train, parts.test)
    assert best(scores) == "lagrangian_increment"
    assert scores["lagrangian_increment"] < scores["advection"] < 0.6 * scores["persistence"]
    assert tuple(scores) == NAMES
    held = parts.test.values
    assert scores["persistence"] == pytest.approx(vrmse(held[:, 1:-1], held[:, 2:]))
