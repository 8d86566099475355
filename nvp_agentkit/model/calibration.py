"""Intervals that hold what they promise: split-conformal widths from trajectories not trained on."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import numpy as np
import numpy.typing as npt

from nvp_agentkit.errors import InvalidField
from nvp_agentkit.fields.metrics import SMALLEST_SIGMA
from nvp_agentkit.fields.scores import coverage_by_level
from nvp_agentkit.model.bundle import LEVELS, NORMAL_QUANTILE, Calibration, Floats
from nvp_agentkit.model.predict import Mask

BINS = (0.1, 0.25, 0.5, 0.75, 0.9, 0.95, 0.98, 0.99, 0.995, 0.998, 0.999)  # by rank of sigma: few hold most of it
FEWEST_CELLS = 256  # of a bin
MOST_CELLS = 2**20  # that bins are made of


def calibrate(mean: Floats, log_var: Floats, truth: Floats, mask: Mask | None = None) -> Calibration:
    """What sigma is worth, and the width of each interval in units of what it is worth.

    Args:
        mean: forecasts (N, H, W), the field's unit.
        log_var: their log-variance before any calibration.
        truth: what happened.
        mask: True where ``truth`` has a value; None: wherever it is finite.

    Returns:
        Sigma is bent first: cells are sorted into bins by what they claim, and get what cells of their bin err by.
        Widths are then the ceil((n + 1) level)-th smallest |error| / sigma (Vovk's split-conformal quantile), so
        coverage is right on average where test cells are exchangeable with these.

    Raises:
        InvalidField: no valid cell.
    """
    sigma, error = _valid(mean, log_var, truth, mask)
    if not error.size:
        raise InvalidField("no validation cell has a value; calibration needs some")
    straight = Calibration(_quantiles(error / sigma)[0.9] / NORMAL_QUANTILE[0.9])
    bent = replace(straight, bend=_bend(sigma, error, straight.scale))
    claimed: Floats = 2 * np.log(sigma)
    quantile = _quantiles(error * np.exp(-bent.log_var(claimed) / 2))
    rest = quantile[0.9] / NORMAL_QUANTILE[0.9]
    return replace(bent, scale=bent.scale * rest, width={level: value / rest for level, value in quantile.items()})


def _quantiles(score: Floats) -> dict[float, float]:
    ordered = np.sort(score)
    ranks = {level: min(int(np.ceil((score.size + 1) * level)), score.size) - 1 for level in LEVELS}
    return {level: max(float(ordered[rank]), SMALLEST_SIGMA) for level, rank in ranks.items()}


def _bend(sigma: Floats, error: Floats, scale: float) -> tuple[tuple[float, float], ...]:
    """Which factor beside ``scale`` makes the 90% normal interval right in each bin of cells by ``sigma``.

    What cells are said to err by never falls as they claim more.

    A likelihood hardly minds a few cells that claim far too much, and these few hold most of the variance. Source:
    Levi et al. 2022 (sigma recalibrated by isotonic regression), Bostrom and Johansson 2020 (conformal by bins of
    difficulty); docs/decisions/047.
    """
    every = 1 + sigma.size // MOST_CELLS // 2 * 2  # odd: cells of all columns, and of each place in a network's block
    sigma, error = sigma[::every], error[::every]
    order = np.argsort(sigma, kind="stable")
    edges = [sigma.size]
    for share in reversed(BINS):
        if FEWEST_CELLS <= (edge := int(share * sigma.size)) <= edges[0] - FEWEST_CELLS:
            edges.insert(0, edge)
    if len(edges) == 1:
        return ()
    bins = [order[low:high] for low, high in pairwise([0, *edges])]
    claimed = np.array([np.mean(np.log(sigma[one]), dtype=np.float64) for one in bins])
    reached = np.array([np.quantile(error[one], 0.9) / NORMAL_QUANTILE[0.9] for one in bins])
    found = np.log(np.maximum(reached, SMALLEST_SIGMA))
    rising = _rising(found, np.array([one.size for one in bins]))
    distinct = np.append(np.diff(claimed) > 0, True)  # a model that claims the same everywhere has one knot
    factors = rising - claimed - np.log(scale)
    return tuple(zip(claimed[distinct].tolist(), factors[distinct].tolist(), strict=True))


def _rising(values: npt.NDArray[np.float64], weights: npt.NDArray[np.int_]) -> npt.NDArray[np.float64]:
    """Isotonic regression, by its max-min formula: nearest to ``values`` of all that never fall."""
    count = len(values)
    means = {
        (low, high): float(np.average(values[low : high + 1], weights=weights[low : high + 1]))
        for low in range(count) for high in range(low, count)
    }  # fmt: skip
    return np.array([
        max(min(means[low, high] for high in range(at, count)) for low in range(at + 1)) for at in range(count)
    ])


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


def _valid(mean: Floats, log_var: Floats, truth: Floats, mask: Mask | None) -> tuple[Floats, Floats]:
    """Sigma and |error| of the valid cells, flat."""
    valid = np.isfinite(truth) if mask is None else mask & np.isfinite(truth)
    sigma: Floats = np.maximum(np.exp(log_var[valid] / 2), SMALLEST_SIGMA)
    return sigma, np.abs(mean[valid] - truth[valid])


def interval_coverage(
    mean: Floats, log_var: Floats, truth: Floats, calibration: Calibration, mask: Mask | None = None
) -> dict[float, float]:
    """Share of valid cells inside each interval; ``log_var`` as `predict_next` gives it (scaled)."""
    sigma, error = _valid(mean, log_var, truth, mask)
    return coverage_by_level(error, sigma, calibration.width)
