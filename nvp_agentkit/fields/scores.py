"""How good a forecast's doubt is: fair CRPS, coverage, width, spread against skill; and how sure a score is.

Arrays are (..., H, W) in the field's unit, as in `fields.metrics`; only cells of ``mask`` count.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from nvp_agentkit.errors import InvalidField, InvalidInput
from nvp_agentkit.fields.metrics import SMALLEST_SIGMA, TINY, Array, Mask

RESAMPLES = 1000


class Interval(NamedTuple):
    """An estimate and the bounds between which 95% (or what was asked) of its resamples lie."""

    value: float
    low: float
    high: float


def fair_crps(members: Array, truth: Array, mask: Mask | None = None) -> float:
    """Fair continuous ranked probability score, mean over cells, the field's unit; 0 is perfect.

    Args:
        members: (M, ..., H, W), M >= 2 forecasts of one thing; fair means that M itself neither helps nor hurts.
        truth: (..., H, W).
        mask: of ``truth``.

    Source: Ferro (2014), by scoringrules.
    """
    from scoringrules import crps_ensemble  # 2 s to import

    if len(members) < 2 or members.shape[1:] != truth.shape:
        raise InvalidField(f"members {members.shape}, truth {truth.shape}; give (M, ...) with M >= 2 of the truth's")
    valid = _valid(truth, mask)
    score: npt.NDArray[Any] = crps_ensemble(
        truth[valid].astype(np.float64), members[:, valid].astype(np.float64), m_axis=0, estimator="fair"
    )
    return float(np.mean(score))


def coverage(low: Array, high: Array, truth: Array, mask: Mask | None = None) -> float:
    """Share of cells whose truth lies in [low, high]."""
    valid = _valid(truth, mask)
    return float(np.mean((low <= truth)[valid] & (truth <= high)[valid]))


def coverage_by_level(error: Array, sigma: Array, width: Mapping[float, float]) -> dict[float, float]:
    """Share of cells that err by no more than ``width`` times what they claim, by the level that the width is of."""
    score = error / np.maximum(sigma, SMALLEST_SIGMA)
    return {level: float(np.mean(score <= times)) for level, times in width.items()}


def coverage_by_decile(low: Array, high: Array, truth: Array, by: Array, mask: Mask | None = None) -> tuple[float, ...]:
    """`coverage` of the tenth of cells where ``by`` is least, of the next tenth, and so on; ties as they come."""
    valid = _valid(truth, mask)
    inside = (low <= truth)[valid] & (truth <= high)[valid]
    tenths = np.array_split(inside[np.argsort(by[valid], kind="stable")], 10)
    return tuple(float(tenth.mean()) if tenth.size else float("nan") for tenth in tenths)


def width(low: Array, high: Array, truth: Array, mask: Mask | None = None) -> float:
    """Mean width of [low, high], the field's unit: what coverage was bought with."""
    return float(np.mean((high - low)[_valid(truth, mask)], dtype=np.float64))


def spread_skill(
    mean: Array, log_var: Array, truth: Array, mask: Mask | None = None, *, members: int | None = None
) -> float:
    """RMS of the claimed sigma over the RMS error: 1 is honest, below 1 overconfident.

    Args:
        mean: the forecast.
        log_var: its log-variance.
        truth: what came.
        mask: of ``truth``.
        members: of the ensemble whose variance (M - 1 below the line) this is: corrects for their being few, by
            sqrt((M + 1) / M). Source: Fortin et al. (2014).
    """
    valid = _valid(truth, mask)
    spread = float(np.mean(np.exp(log_var[valid].astype(np.float64))))
    missed = float(np.mean((mean[valid].astype(np.float64) - truth[valid]) ** 2))
    factor = 1.0 if members is None else (members + 1) / members
    return float(np.sqrt(factor * spread / (missed + TINY)))


def bootstrap_by_trajectory(
    statistic: Callable[[npt.NDArray[np.intp]], float], trajectories: int, *, level: float = 0.95, seed: int = 0
) -> Interval:
    """Percentile interval of ``statistic`` when whole trajectories are drawn anew: frames of one are no evidence apart.

    Args:
        statistic: of the trajectories with these numbers, some of them several times.
        trajectories: how many there are; of one alone nothing can be said, and both bounds are NaN.
        level: share of resamples between the bounds.
        seed: of the drawing.

    Raises:
        InvalidInput: no trajectory.
    """
    if trajectories < 1:
        raise InvalidInput(f"{trajectories} trajectories; give at least 1")
    value = statistic(np.arange(trajectories))
    if trajectories == 1:
        return Interval(value, float("nan"), float("nan"))
    draws = np.random.default_rng(seed).integers(trajectories, size=(RESAMPLES, trajectories))
    low, high = np.quantile([statistic(draw) for draw in draws], [(1 - level) / 2, (1 + level) / 2])
    return Interval(value, float(low), float(high))


def _valid(truth: Array, mask: Mask | None) -> Mask:
    valid: Mask = np.isfinite(truth) if mask is None else mask & np.isfinite(truth)
    if not valid.any():
        raise InvalidField("no valid cell to score: the mask is False everywhere; choose other frames")
    return valid
