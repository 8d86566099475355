"""Intervals that hold what they promise: split-conformal widths from trajectories not trained on."""

from __future__ import annotations

import numpy as np

from nvp_agentkit.errors import InvalidField
from nvp_agentkit.model.bundle import LEVELS, NORMAL_QUANTILE, Calibration, Floats
from nvp_agentkit.model.predict import Mask

SMALLEST_SIGMA = 1e-20


def calibrate(mean: Floats, log_var: Floats, truth: Floats, mask: Mask | None = None) -> Calibration:
    """The scale of sigma, and the width of each interval in units of scaled sigma.

    Args:
        mean: forecasts (N, H, W), the field's unit.
        log_var: their log-variance before any calibration.
        truth: what happened.
        mask: True where ``truth`` has a value; None: wherever it is finite.

    Returns:
        Widths are the ceil((n + 1) level)-th smallest |error| / sigma (Vovk's split-conformal quantile), so
        coverage is right on average where test cells are exchangeable with these.

    Raises:
        InvalidField: no valid cell.
    """
    score = scores(mean, log_var, truth, mask)
    if not score.size:
        raise InvalidField("no validation cell has a value; calibration needs some")
    ordered = np.sort(score)
    ranks = {level: min(int(np.ceil((score.size + 1) * level)), score.size) - 1 for level in LEVELS}
    quantile = {level: max(float(ordered[rank]), SMALLEST_SIGMA) for level, rank in ranks.items()}
    scale = quantile[0.9] / NORMAL_QUANTILE[0.9]
    return Calibration(scale, {level: value / scale for level, value in quantile.items()})


def intervals(
    mean: Floats, log_var: Floats, calibration: Calibration, lead: int = 1
) -> dict[float, tuple[Floats, Floats]]:
    """(low, high) of each level in `LEVELS`, the field's unit.

    Args:
        mean: forecasts, any shape.
        log_var: theirs, as `predict_next` and `rollout` give it (calibrated).
        calibration: the bundle's.
        lead: how many steps ahead they are.
    """
    sigma = np.exp(log_var / 2)
    reach = {level: np.float32(width) * sigma for level, width in calibration.at(lead).width.items()}
    return {level: (mean - far, mean + far) for level, far in reach.items()}


def scores(mean: Floats, log_var: Floats, truth: Floats, mask: Mask | None = None) -> Floats:
    """|error| / sigma of the valid cells, flat."""
    valid = np.isfinite(truth) if mask is None else mask & np.isfinite(truth)
    sigma = np.maximum(np.exp(log_var[valid] / 2), SMALLEST_SIGMA)
    ratio: Floats = np.abs(mean[valid] - truth[valid]) / sigma
    return ratio


def coverage(
    mean: Floats, log_var: Floats, truth: Floats, calibration: Calibration, mask: Mask | None = None
) -> dict[float, float]:
    """Share of valid cells inside each interval; ``log_var`` as `predict_next` gives it (scaled)."""
    score = scores(mean, log_var, truth, mask)
    return {level: float(np.mean(score <= calibration.width[level])) for level in LEVELS}
