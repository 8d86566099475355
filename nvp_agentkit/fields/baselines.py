"""Forecasts that need no network. A model is worth what it adds to the best of them.

Which one that is depends on the field: on plasma turbulence and daily ocean altimetry ``lagrangian_increment``, on
radar rain ``advection`` in one place and ``persistence`` in another.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar, NamedTuple, Protocol

import numpy as np

from nvp_agentkit.errors import InvalidField
from nvp_agentkit.fields.advection import advect
from nvp_agentkit.fields.masking import fill_invalid
from nvp_agentkit.fields.metrics import vrmse
from nvp_agentkit.fields.sequence import FieldMeta, Floats, Mask, SequenceSet

FIT_WINDOWS = 64  # spread over the training data; the one fitted number moves by less than 0.02 beyond


class Baseline(Protocol):
    """A trivial forecaster."""

    name: ClassVar[str]

    def fit(self, train: SequenceSet, context: int) -> None:
        """Set what there is to fit from training data alone."""

    def forecast(self, frames: Floats, mask: Mask | None = None) -> Floats:
        """The next map (H, W) from ``frames`` (K, H, W), oldest first; ``mask`` False where nothing was observed."""


class _Unfitted:
    def fit(self, train: SequenceSet, context: int) -> None:
        """Nothing to fit."""


class Persistence(_Unfitted):
    """Nothing changes."""

    name: ClassVar[str] = "persistence"

    def forecast(self, frames: Floats, mask: Mask | None = None) -> Floats:
        last: Floats = fill_invalid(frames, mask)[-1]
        return last


@dataclass
class LinearExtrapolation(_Unfitted):
    """Every cell changes as it just did."""

    meta: FieldMeta
    name: ClassVar[str] = "linear_extrapolation"

    def forecast(self, frames: Floats, mask: Mask | None = None) -> Floats:
        filled = fill_invalid(frames, mask)
        return _bounded(2 * filled[-1] - filled[max(-2, -len(filled))], self.meta)


@dataclass
class Advection(_Unfitted):
    """The last map drifts on along the optical flow."""

    meta: FieldMeta
    name: ClassVar[str] = "advection"

    def forecast(self, frames: Floats, mask: Mask | None = None) -> Floats:
        filled = fill_invalid(frames, mask)
        return _bounded(advect(filled[max(-2, -len(filled))], filled[-1], self.meta.boundary).value, self.meta)


@dataclass
class LagrangianIncrement:
    """Advection, and a fitted share of what the moving value just gained: the one to beat."""

    meta: FieldMeta
    share: float = 0.0
    name: ClassVar[str] = "lagrangian_increment"

    def fit(self, train: SequenceSet, context: int) -> None:
        """Least squares of the error of advection on the increment."""
        pairs = list(_windows(train, context))
        across = along = 0.0
        for window in pairs[:: max(1, len(pairs) // FIT_WINDOWS)]:
            filled = fill_invalid(window.frames, window.mask)
            moved = advect(filled[max(-2, -len(filled))], filled[-1], self.meta.boundary)
            increment = moved.increment if window.target_mask is None else moved.increment * window.target_mask
            across += float(np.vdot(increment, window.target - moved.value))
            along += float(np.vdot(increment, increment))
        self.share = across / along if along > 0 else 0.0

    def forecast(self, frames: Floats, mask: Mask | None = None) -> Floats:
        filled = fill_invalid(frames, mask)
        moved = advect(filled[max(-2, -len(filled))], filled[-1], self.meta.boundary)
        return _bounded(moved.value + np.float32(self.share) * moved.increment, self.meta)


def baselines(meta: FieldMeta) -> tuple[Baseline, ...]:
    """All of them, not fitted yet."""
    return Persistence(), LinearExtrapolation(meta), Advection(meta), LagrangianIncrement(meta)


def score_baselines(train: SequenceSet, test: SequenceSet, context: int = 2) -> dict[str, float]:
    """VRMSE of every baseline, one step ahead, over every window of ``test``; only observed cells count.

    Args:
        train: what the baselines are fitted on.
        test: trajectories, or a later time block, that fitting did not see.
        context: frames a forecaster is shown, as many as the model it is compared with.

    Raises:
        InvalidField: ``test`` holds no window or no observed cell to score.
    """
    windows = list(_windows(test, context))
    if not windows:
        raise InvalidField(f"{test.frames} frames hold no window of {context} + 1; bring a longer sequence")
    truth = np.stack([window.target for window in windows])
    masks = [window.target_mask for window in windows if window.target_mask is not None]
    scores = {}
    for baseline in baselines(test.meta):
        baseline.fit(train, context)
        forecasts = np.stack([baseline.forecast(window.frames, window.mask) for window in windows])
        scores[baseline.name] = vrmse(forecasts, truth, np.stack(masks) if masks else None)
    return scores


def best(scores: dict[str, float]) -> str:
    """The name of the strongest."""
    return min(scores, key=scores.__getitem__)


class _Window(NamedTuple):
    frames: Floats
    mask: Mask | None
    target: Floats
    target_mask: Mask | None


def _windows(sequences: SequenceSet, context: int) -> Iterator[_Window]:
    for trajectory in sequences:
        for end in range(context, len(trajectory)):
            shown = slice(end - context, end)
            mask = trajectory.mask
            yield _Window(
                trajectory.values[shown],
                None if mask is None else mask[shown],
                trajectory.values[end],
                None if mask is None else mask[end],
            )


def _bounded(field: Floats, meta: FieldMeta) -> Floats:
    return np.maximum(field, np.float32(0)) if meta.positive else field
