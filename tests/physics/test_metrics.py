"""Errors and scores: a perfect forecast passes all, a worse one moves each the right way, zeros break none."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nvp_agentkit.errors import InvalidField
from nvp_agentkit.fields import metrics

TRUTH = np.random.default_rng(0).gamma(2.0, size=(3, 16, 18)).astype(np.float32)
NOISE = np.random.default_rng(1).normal(size=TRUTH.shape).astype(np.float32)
ERRORS = [metrics.rmse, metrics.vrmse, metrics.nrmse]
SCORES = [metrics.energy_fidelity, metrics.entropy_coherence]


def test_a_perfect_forecast_passes_all() -> None:
    assert [error(TRUTH, TRUTH) for error in ERRORS] == [0, 0, 0]
    assert [score(TRUTH, TRUTH) for score in SCORES] == [1, 1]


@pytest.mark.parametrize("error", ERRORS)
def test_more_noise_is_a_larger_error(error: metrics.Array) -> None:
    errors = [error(TRUTH + size * NOISE, TRUTH) for size in (0.1, 0.2, 0.4)]
    np.testing.assert_allclose(errors, errors[0] * np.array([1, 2, 4]), rtol=1e-5)


def test_the_mean_of_the_map_scores_one() -> None:
    mean = np.broadcast_to(TRUTH.mean((-2, -1), keepdims=True), TRUTH.shape)
    assert metrics.vrmse(mean, TRUTH) == pytest.approx(1, rel=1e-6)


def test_total_and_entropy_are_judged_apart() -> None:
    flat = np.broadcast_to(TRUTH.mean((-2, -1), keepdims=True), TRUTH.shape)
    assert metrics.energy_fidelity(flat, TRUTH) == pytest.approx(1, abs=1e-6)
    assert metrics.energy_fidelity(0.9 * TRUTH, TRUTH) == pytest.approx(0.9, abs=1e-6)
    assert metrics.entropy_coherence(flat, TRUTH) < 1 - 1e-2
    assert metrics.entropy_coherence(0.9 * TRUTH, TRUTH) == pytest.approx(1, abs=1e-6)
    assert metrics.spatial_entropy(flat) == pytest.approx(math.log(16 * 18))


@pytest.mark.parametrize("metric", ERRORS + SCORES)
def test_what_the_mask_leaves_out_counts_for_nothing(metric: metrics.Array) -> None:
    mask = NOISE > -0.5
    spoilt_truth = np.where(mask, TRUTH, np.nan)
    spoilt = np.where(mask, TRUTH + NOISE, np.inf)
    assert metric(spoilt, spoilt_truth, mask) == metric(TRUTH + NOISE, TRUTH, mask) != metric(TRUTH + NOISE, TRUTH)


def test_masked_vrmse_is_that_of_the_cells_left() -> None:
    mask = np.zeros(TRUTH.shape, bool)
    mask[:, :8] = True
    assert metrics.vrmse(TRUTH + NOISE, TRUTH, mask) == pytest.approx(
        metrics.vrmse((TRUTH + NOISE)[:, :8], TRUTH[:, :8])
    )


@pytest.mark.parametrize("metric", ERRORS + SCORES)
def test_zeros_do_not_divide_by_zero(metric: metrics.Array) -> None:
    zeros = np.zeros((16, 16), np.float32)
    assert math.isfinite(metric(zeros, zeros))
    assert math.isfinite(metric(zeros + 1, zeros))


@given(st.floats(1e-3, 1e3))
def test_the_unit_does_not_matter(scale: float) -> None:
    for metric in (metrics.vrmse, metrics.nrmse, *SCORES):
        expected = metric(TRUTH + NOISE, TRUTH)
        assert metric(scale * (TRUTH + NOISE), scale * TRUTH) == pytest.approx(expected, rel=1e-4, abs=1e-6)


def test_skill_is_the_share_of_the_reference_error_that_is_gone() -> None:
    assert metrics.skill(0.0, 0.1) == 1
    assert metrics.skill(0.1, 0.1) == 0
    assert metrics.skill(0.2, 0.1) == -1
    assert metrics.skill(0.0, 0.0) == 1


def test_arrays_that_do_not_match_and_masks_without_a_cell_are_refused() -> None:
    with pytest.raises(InvalidField, match="one shape"):
        metrics.rmse(TRUTH[:2], TRUTH)
    with pytest.raises(InvalidField, match="no valid cell"):
        metrics.rmse(TRUTH, TRUTH, np.zeros(TRUTH.shape, bool))
