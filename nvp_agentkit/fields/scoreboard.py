"""Forecasters side by side on sequences that none of them was fitted on."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

import numpy as np

from nvp_agentkit.errors import InvalidField
from nvp_agentkit.fields import metrics, scores
from nvp_agentkit.fields.forecasters import Forecaster
from nvp_agentkit.fields.scores import Interval, bootstrap_by_trajectory
from nvp_agentkit.fields.sequence import EnergySequence, Floats, Mask, SequenceSet

NORMAL_90 = 1.645  # half-width of the 90% interval of a normal distribution, in sigma
BLOCKS, SHORTEST_BLOCK = 8, 4  # of one trajectory's windows

Told = tuple[Floats, Floats, Floats, Mask | None]


@dataclass(frozen=True)
class Row:
    """One forecaster, one step ahead.

    Attributes:
        vrmse: with a 95% interval by trajectory, of one trajectory alone by blocks of frames: those depend on each
            other, so that one is too narrow.
        h1: relative error of values and slopes.
        bands: error by wavenumber; empty where cells are masked.
        budget_error: of the map's total.
        coverage_90: share of cells inside mean +- 1.645 sigma.
        spread_skill: claimed sigma over error.
        cpu_s: CPU-seconds of one forecast.
    """

    name: str
    vrmse: Interval
    h1: float
    bands: Mapping[str, float]
    budget_error: float
    coverage_90: float
    spread_skill: float
    cpu_s: float


def scoreboard(forecasters: Iterable[Forecaster], test: SequenceSet, clock: Callable[[], float]) -> tuple[Row, ...]:
    """Every forecaster on every window of ``test``, the best first; only observed cells count.

    Args:
        forecasters: fitted on other sequences.
        test: what they are judged on.
        clock: CPU-seconds of this process so far: physics has no clock of its own.

    Raises:
        InvalidField: trajectories too short for a window of one of them.
    """
    return tuple(sorted((_row(one, test, clock) for one in forecasters), key=lambda row: row.vrmse.value))


def _row(forecaster: Forecaster, test: SequenceSet, clock: Callable[[], float]) -> Row:
    began = clock()
    told = [_told(forecaster, trajectory) for trajectory in test]
    cpu_s = clock() - began
    drawn_from = told if len(told) > 1 else _blocks(told[0])
    terms = np.array([metrics.vrmse_terms(mean, came, there) for mean, _, came, there in drawn_from])

    def vrmse(drawn: np.ndarray) -> float:
        missed, spread = terms[drawn].sum(0)
        return float(np.sqrt(missed / (spread + metrics.TINY)))

    mean, log_var, came = (np.concatenate(parts) for parts in list(zip(*told, strict=True))[:3])
    masks = [there for *_, there in told if there is not None]
    there = np.concatenate(masks) if masks else None
    sigma = np.exp(log_var / 2)
    low, high = mean - NORMAL_90 * sigma, mean + NORMAL_90 * sigma
    periodic = test.meta.boundary == ("periodic", "periodic")
    return Row(
        name=forecaster.name,
        vrmse=bootstrap_by_trajectory(vrmse, len(drawn_from)),
        h1=metrics.h1(mean, came, there),
        bands=metrics.spectral_error(mean, came, periodic=periodic) if there is None else {},
        budget_error=metrics.budget_error(mean, came, there),
        coverage_90=scores.coverage(low, high, came, there),
        spread_skill=scores.spread_skill(mean, log_var, came, there),
        cpu_s=cpu_s / len(mean),
    )


def _blocks(told: Told) -> list[Told]:
    """``told`` of one trajectory in at most `BLOCKS` pieces; a piece in which nothing was observed says nothing."""
    mean, log_var, came, there = told
    pieces = np.array_split(np.arange(len(mean)), max(1, min(BLOCKS, len(mean) // SHORTEST_BLOCK)))
    cut = [(mean[at], log_var[at], came[at], None if there is None else there[at]) for at in pieces]
    return [piece for piece in cut if piece[3] is None or piece[3].any()] or [told]


def _told(forecaster: Forecaster, trajectory: EnergySequence) -> Told:
    """Mean, log-variance and what came of every window (T - K, H, W), and where that was observed."""
    context = forecaster.context_frames
    if len(trajectory) <= context:
        raise InvalidField(f"trajectories of {len(trajectory)} frames; {forecaster.name} needs at least {context + 1}")
    starts = range(len(trajectory) - context)
    values, mask = trajectory.values, trajectory.mask
    seen = None if mask is None else np.stack([mask[start : start + context] for start in starts])
    mean, log_var = forecaster.predict_next(np.stack([values[start : start + context] for start in starts]), seen)
    return mean, log_var, np.asarray(values[context:]), None if mask is None else np.asarray(mask[context:])
