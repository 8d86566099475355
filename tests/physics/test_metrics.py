"""Errors and scores: a perfect forecast passes all, a worse one moves each the right way, zeros break none."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nvp_agentkit.errors import InvalidField
from nvp_agentkit.fields import metrics
from nvp_agentkit.fields.sequence import Conservation

TRUTH = np.random.default_rng(0).gamma(2.0, size=(3, 16, 18)).astype(np.float32)
NOISE = np.random.default_rng(1).normal(size=TRUTH.shape).astype(np.float32)
ERRORS = [metrics.rmse, metrics.vrmse, metrics.nrmse, metrics.h1]
SCORES = [metrics.energy_fidelity, metrics.entropy_coherence]


def test_a_perfect_forecast_passes_all() -> None:
    assert [error(TRUTH, TRUTH) for error in ERRORS] == [0, 0, 0, 0]
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


def test_maps_with_too_much_and_too_little_do_not_make_up_for_each_other() -> None:
    two = np.stack([TRUTH.reshape(-1, 16, 18)[0]] * 2)
    assert metrics.energy_fidelity(two * [[[1.5]], [[0.5]]], two) == pytest.approx(0.5)
    flat = np.broadcast_to(two.mean((-2, -1), keepdims=True), two.shape)
    peak = np.where(two == two.max(), two, 0)
    coherent = [metrics.entropy_coherence(one, two) for one in (flat, peak)]
    mixed = metrics.entropy_coherence(np.stack([flat[0], peak[0]]), two)
    assert mixed == pytest.approx(np.mean(coherent))
    assert max(coherent) < 1


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
    for metric in (metrics.vrmse, metrics.nrmse, metrics.h1, metrics.budget_error, *SCORES):
        expected = metric(TRUTH + NOISE, TRUTH)
        assert metric(scale * (TRUTH + NOISE), scale * TRUTH) == pytest.approx(expected, rel=1e-4, abs=1e-6)


def test_h1_sees_the_slopes_that_blur_takes_away() -> None:
    x = np.arange(64) * 2 * np.pi / 64
    fine, coarse = np.broadcast_to(0.3 * np.cos(16 * x), (64, 64)), np.broadcast_to(np.cos(x), (64, 64))
    truth = coarse + fine
    assert metrics.h1(coarse, truth) > 1.5 * metrics.vrmse(coarse, truth)  # what was lost is steep
    assert metrics.h1(fine, truth) < metrics.vrmse(fine, truth)
    assert metrics.h1(coarse, truth, dx=1e6) == pytest.approx(metrics.vrmse(coarse, truth), rel=1e-6)


def test_a_band_s_error_is_that_of_its_waves_and_of_no_others() -> None:
    x = np.arange(128) * 2 * np.pi / 128
    waves = {"k<8": np.cos(3 * x), "8-32": np.cos(20 * x), "k>32": np.cos(50 * x)}
    truth = np.broadcast_to(sum(waves.values()), (2, 128, 128))
    for name, wave in waves.items():
        found = metrics.spectral_error(truth - 0.25 * wave, truth)
        assert found == pytest.approx({**dict.fromkeys(waves, 0), name: 0.25}, abs=1e-6)
    assert list(metrics.spectral_error(TRUTH, TRUTH)) == ["k<8", "8-32"]  # 16 cells have no finer waves


def test_a_field_that_ends_is_tapered_so_that_its_edges_are_no_small_scales() -> None:
    ramp = np.broadcast_to(np.linspace(0, 1, 128), (128, 128))
    fine = ramp + 0.01 * np.cos(np.arange(128) * 2 * np.pi * 50 / 128)
    assert metrics.spectral_error(ramp, fine, periodic=False)["k>32"] > 0.9
    assert metrics.spectral_error(ramp, fine)["k>32"] < 0.7  # hidden below the jump from edge to edge


def test_the_budget_is_judged_map_by_map() -> None:
    up_and_down = np.array([1.1, 0.9, 1.0])[:, None, None] * TRUTH
    assert metrics.budget_error(TRUTH, TRUTH) == 0
    assert metrics.budget_error(up_and_down, TRUTH) == pytest.approx(0.2 / 3, rel=1e-5)


@pytest.mark.parametrize(("kind", "forbidden"), [("closed", 0.2 / 3), ("dissipative", 0.1 / 3), ("open", 0.0)])
def test_a_class_is_broken_by_what_it_forbids(kind: Conservation, forbidden: float) -> None:
    up_and_down = np.array([1.1, 0.9, 1.0])[:, None, None] * TRUTH
    assert metrics.budget_violation(up_and_down, TRUTH, kind) == pytest.approx(forbidden, rel=1e-5)
    assert metrics.budget_violation(TRUTH, TRUTH, kind) == 0
    mask = np.broadcast_to(np.arange(TRUTH.shape[-1]) < 3, TRUTH.shape)
    elsewhere = np.where(mask, TRUTH, 100.0)
    assert metrics.budget_violation(elsewhere, TRUTH, kind, mask) == 0


def test_correlation_time_counts_the_steps_before_the_forecast_is_lost() -> None:
    fading = np.array([0.0, 0.3, 10.0, 0.1])[:, None, None] * np.random.default_rng(2).normal(size=(4, 16, 18))
    truth = np.broadcast_to(TRUTH[0], (4, 16, 18))
    found = metrics.correlation(truth + fading, truth)
    assert found[0] == pytest.approx(1)
    assert (np.abs(found) <= 1 + 1e-9).all()
    assert metrics.correlation_time(truth + fading, truth) == 2
    assert metrics.correlation_time(truth, truth) == 4
    assert metrics.correlation(np.ones((16, 18)), TRUTH[0]) == 0


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
