from __future__ import annotations

import numpy as np
import pytest

from nvp_agentkit.errors import InvalidField
from nvp_agentkit.model import Calibration, calibrate, coverage

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
    inside = coverage(mean, log_var + 2 * np.float32(np.log(found.scale)), truth, found)
    for level, share in inside.items():
        assert share == pytest.approx(level, abs=0.01)


def test_uncalibrated_intervals_would_not_cover():
    assert coverage(*case(4.0), Calibration())[0.9] < 0.4


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
