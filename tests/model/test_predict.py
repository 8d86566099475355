from __future__ import annotations

import dataclasses
import gc

import jax
import numpy as np
import pytest

from nvp_agentkit.errors import InvalidField
from nvp_agentkit.model import Calibration, Normalization, predict, predict_next

from .conftest import SMALL, scrambled


def compiled() -> int:
    return sum(program._cache_size() for program in predict._programs.values())


def executables() -> int:
    """All that XLA has made for this process, and that something still holds."""
    gc.collect()
    return len(jax.local_devices()[0].client.live_executables())


def test_a_forecast_is_in_the_field_s_unit(bundle, frames):
    metres = predict_next(bundle, frames)[0]
    in_millimetres = dataclasses.replace(bundle, normalization=Normalization(0.0, 1000.0))
    mean, log_var = predict_next(in_millimetres, 1000 * frames)
    np.testing.assert_allclose(mean, 1000 * metres, rtol=1e-3, atol=1e-2)
    np.testing.assert_allclose(log_var, predict_next(bundle, frames)[1] + 2 * np.log(1000), rtol=1e-3, atol=1e-3)


def test_calibration_widens_sigma_and_leaves_the_mean(bundle, frames):
    wide = dataclasses.replace(bundle, calibration=Calibration(scale=3.0))
    (mean, log_var), (same, wider) = predict_next(bundle, frames), predict_next(wide, frames)
    np.testing.assert_array_equal(mean, same)
    np.testing.assert_allclose(np.exp((wider - log_var) / 2), 3.0, rtol=1e-4)


def test_a_positive_field_stays_positive(frames):
    positive, signed = scrambled(SMALL), scrambled(dataclasses.replace(SMALL, positive=False))
    assert predict_next(signed, frames - 0.5)[0].min() < 0
    assert predict_next(positive, frames - 0.5)[0].min() >= 0


def test_nan_and_mask_are_the_same_hole(frames):
    bundle = scrambled(dataclasses.replace(SMALL, masked=True))
    mask = np.ones(frames.shape, bool)
    mask[:, :, 2:5, 2:5] = False
    holed = np.where(mask, frames, np.float32("nan"))
    mean, log_var = predict_next(bundle, holed)
    assert np.isfinite(mean).all()
    np.testing.assert_array_equal(mean, predict_next(bundle, frames, mask)[0])
    np.testing.assert_array_equal(log_var, predict_next(bundle, np.where(mask, frames, 7.0), mask)[1])


def test_cells_without_a_value_never_reach_a_network_that_knows_of_none(bundle, frames):
    holed = frames.copy()
    holed[0, -1, 3, 4] = np.nan
    with pytest.raises(InvalidField, match=rf"1 of {frames.size:,} cells have no value.*masked=True"):
        predict_next(bundle, holed)
    with pytest.raises(InvalidField, match="cells have no value"):
        predict_next(bundle, frames, np.isfinite(holed))


def test_a_forecast_does_not_depend_on_its_batch(bundle):
    many = np.random.default_rng(2).random((19, 2, 16, 16), np.float32)
    together = predict_next(bundle, many)[0]
    assert together.shape == (19, 16, 16)
    for place in (0, 15, 16, 18):
        np.testing.assert_allclose(together[place], predict_next(bundle, many[place : place + 1])[0][0], atol=1e-5)


def test_more_frames_than_the_context_are_cut_to_the_newest(bundle, frames):
    longer = np.concatenate([np.full_like(frames, 9.0), frames], axis=1)
    np.testing.assert_array_equal(predict_next(bundle, longer)[0], predict_next(bundle, frames)[0])


def test_fewer_frames_than_the_context_are_enough_and_compile_nothing(bundle, frames):
    same = predict_next(bundle, np.repeat(frames[:, -1:], 2, 1))[0]
    before = compiled()
    np.testing.assert_array_equal(predict_next(bundle, frames[:, -1:])[0], same)
    assert compiled() == before


def test_what_is_forgotten_is_no_program_any_more_and_what_is_kept_compiles_nothing(bundle, frames):
    other = dataclasses.replace(bundle, config=dataclasses.replace(bundle.config, boundary=("open", "open")))
    wide = np.repeat(frames, 2, axis=-1)
    for one, shown in ((bundle, frames), (bundle, wide), (other, frames)):
        predict_next(one, shown)
    predict.forget([(bundle.config, wide.shape[-2:])])
    left, alive = compiled(), executables()
    predict_next(bundle, wide)
    assert (compiled(), executables()) == (left, alive)
    predict_next(bundle, frames)
    assert executables() == alive + 2, "a network and an origin"
    predict.forget([(bundle.config, wide.shape[-2:])])
    assert (compiled(), executables()) == (left, alive)


@pytest.mark.parametrize(
    ("bad", "said"),
    [
        (np.zeros((2, 16, 16), np.float32), "shape"),
        (np.zeros((0, 2, 16, 16), np.float32), "shape"),
        (np.zeros((1, 2, 8, 16), np.float32), "16"),
        (np.full((1, 2, 16, 16), np.inf, np.float32), "infinite"),
        (np.full((1, 2, 16, 16), 1e300), "infinite"),
        (np.full((1, 2, 16, 16), np.nan, np.float32), "no valid cell"),
        (np.zeros((1, 2, 16, 16), complex), "real"),
        (np.zeros((1, 2, 16, 16), "<U4"), "real"),
    ],
)
def test_frames_that_cannot_be_forecast_are_refused(bundle, bad, said):
    with pytest.raises(InvalidField, match=said):
        predict_next(bundle, bad)


def test_a_mask_of_another_shape_is_refused(bundle, frames):
    with pytest.raises(InvalidField, match="mask"):
        predict_next(bundle, frames, np.ones((16, 24), bool))
