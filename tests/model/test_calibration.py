from __future__ import annotations

import numpy as np
import pytest

from nvp_agentkit.errors import InvalidField
from nvp_agentkit.fields.scores import spread_skill
from nvp_agentkit.model import Calibration, calibrate, interval_coverage

SIDE = (20, 40, 40)


def case(spread: float, seed: int = 0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Forecasts whose stated sigma varies from cell to cell and whose true one is ``spread`` times that."""
    rng = np.random.default_rng(seed)
    log_var = rng.uniform(-6, 0, SIDE).astype(np.float32)
    mean = rng.standard_normal(SIDE).astype(np.float32)
    error = spread * np.exp(log_var / 2) * rng.standard_normal(SIDE)
    return mean, log_var, (mean + error).astype(np.float32)


@pytest.mark.parametrize("spread", [0.3, 1.0, 4.0])
def test_a_wrong_sigma_is_scaled_right_and_covers_new_cells(spread):
    found = calibrate(*case(spread))
    assert found.scale == pytest.approx(spread, rel=0.03)
    mean, log_var, truth = case(spread, seed=1)
    inside = interval_coverage(mean, log_var + 2 * np.float32(np.log(found.scale)), truth, found)
    for level, share in inside.items():
        assert share == pytest.approx(level, abs=0.01)


def test_uncalibrated_intervals_would_not_cover():
    assert interval_coverage(*case(4.0), Calibration())[0.9] < 0.4


def boastful(seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """As `case`, but where one cell of forty errs most it claims up to twenty times as much, and so nearly all."""
    mean, log_var, truth = case(1.0, seed)
    return mean, log_var + 40 * np.maximum(log_var + np.float32(0.15), 0), truth


def test_a_few_cells_that_claim_far_too_much_do_not_hold_the_variance():
    found = calibrate(*boastful(0))
    mean, log_var, truth = boastful(1)
    plain, bent = (spread_skill(mean, told, truth) for told in (log_var, found.log_var(log_var)))
    assert plain > 2
    assert bent == pytest.approx(1, abs=0.05)
    assert interval_coverage(mean, found.log_var(log_var), truth, found)[0.9] == pytest.approx(0.9, abs=0.01)
    quiet = log_var < -3
    assert interval_coverage(mean, found.log_var(log_var), truth, found, quiet)[0.9] == pytest.approx(0.9, abs=0.02)


def test_who_claims_more_is_never_said_to_err_by_less():
    mean, log_var, truth = case(1.0)
    meek = np.where(log_var > -1, mean + 0.05 * (truth - mean), truth)  # who claims most errs least
    found = calibrate(mean, log_var, meek)
    assert len(found.bend) > 2
    claimed = np.linspace(-20, 20, 2001, dtype=np.float32)
    assert (np.diff(found.log_var(claimed)) > -1e-5).all()
    beyond = found.log_var(np.float32([19, 20, -19, -20]))
    assert beyond[1] - beyond[0] == pytest.approx(1, abs=1e-5)  # what was not seen is scaled, as ever
    assert beyond[2] - beyond[3] == pytest.approx(1, abs=1e-5)


def test_a_few_cells_are_scaled_and_not_bent():
    mean, log_var, truth = (part[0, :20, :20] for part in boastful(0))
    found = calibrate(mean, log_var, truth)
    assert found.bend == ()
    assert found.log_var(log_var) == pytest.approx(log_var + 2 * np.log(found.scale), abs=1e-5)


def test_a_model_that_claims_the_same_everywhere_has_one_factor():
    mean, log_var, truth = case(1.0)
    found = calibrate(mean, np.zeros_like(log_var), truth)
    assert len(found.bend) == 1
    assert np.unique(found.log_var(np.zeros_like(log_var))).size == 1


def test_masked_cells_count_for_nothing():
    mean, log_var, truth = case(1.0)
    mask = np.ones(SIDE, bool)
    mask[:, :20] = False
    spoiled = np.where(mask, truth, 1e6).astype(np.float32)
    assert calibrate(mean, log_var, spoiled, mask) == calibrate(mean, log_var, np.where(mask, truth, np.float32("nan")))


def test_a_perfect_forecast_gives_a_finite_calibration():
    mean, log_var, _ = case(1.0)
    found = calibrate(mean, log_var, mean)
    assert found.scale > 0
    assert all(np.isfinite(width) for width in found.width.values())


def test_no_valid_cell_is_refused():
    mean, log_var, truth = case(1.0)
    with pytest.raises(InvalidField, match="validation"):
        calibrate(mean, log_var, truth, np.zeros(SIDE, bool))
