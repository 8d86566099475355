"""Forecasts that need no network. A model is worth what it adds to the best of them.

- persistence: nothing changes;
- linear_extrapolation: every cell changes as it just did;
- climatology: every cell is at its mean over the training data;
- damped_persistence: the last map, drawn towards climatology by a fitted factor;
- advection: the last map drifts on along the optical flow;
- lagrangian_increment: advection, and a fitted share of what the moving value just gained.

Which one is best depends on the field: on plasma turbulence and daily ocean altimetry ``lagrangian_increment``, on
radar rain ``advection`` in one place and ``persistence`` in another.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import NamedTuple, Self

import numpy as np

from nvp_agentkit.errors import InvalidField, UnknownModel
from nvp_agentkit.fields.advection import Advected, advect
from nvp_agentkit.fields.masking import fill_invalid
from nvp_agentkit.fields.metrics import rmse, vrmse
from nvp_agentkit.fields.sequence import Boundary, FieldMeta, Floats, Mask, SequenceSet

NAMES = (
    "persistence",
    "linear_extrapolation",
    "climatology",
    "damped_persistence",
    "advection",
    "lagrangian_increment",
)
FROM_CLIMATOLOGY = ("climatology", "damped_persistence")
FIT_WINDOWS = 64  # spread over the training data; the fitted share moves by less than 0.02 beyond


@dataclass(frozen=True)
class Fit:
    """What they have learnt from training data; as it is made, nothing.

    Attributes:
        share: of the Lagrangian increment.
        climatology: (H, W), mean of every cell; None: not known, and nobody who needs it forecasts.
        damping: share of the last map's departure from climatology that lasts.
        sigma: by forecaster, RMS of what it missed in training, the field's unit.
    """

    share: float = 0.0
    climatology: Floats | None = None
    damping: float = 1.0
    sigma: Mapping[str, float] = field(default_factory=dict)

    @classmethod
    def on(cls, train: SequenceSet, context: int = 2) -> Self:
        """Fitted by least squares on at most `FIT_WINDOWS` windows of ``train``; climatology on all of it."""
        windows = list(_windows(train, context))
        chosen = windows[:: max(1, len(windows) // FIT_WINDOWS)]
        seen = [Seen(Glance.at(one.frames, train.meta, one.mask), one.target, one.target_mask) for one in chosen]
        climatology = _mean_map(train)
        fit = cls(fitted_share(seen), climatology, _fitted_damping(seen, climatology))
        return replace(fit, sigma=_missed(seen, fit, train.meta))

    def score(self, test: SequenceSet, context: int = 2) -> dict[str, float]:
        """VRMSE of every baseline, one step ahead, over every window of ``test``; only observed cells count.

        Args:
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
        told = [Glance.at(one.frames, test.meta, one.mask).forecasts(test.meta, self) for one in windows]
        there = np.stack(masks) if masks else None
        return {name: vrmse(np.stack([one[name] for one in told]), truth, there) for name in NAMES}


@dataclass(frozen=True)
class Glance:
    """All that any of them looks at: the last two maps (H, W), and what lies beyond their edges."""

    before: Floats
    now: Floats
    boundary: tuple[Boundary, Boundary]

    @classmethod
    def at(cls, frames: Floats, meta: FieldMeta, mask: Mask | None = None) -> Self:
        """Look at ``frames`` (K, H, W), oldest first; one frame alone is a field that stands still."""
        filled = fill_invalid(frames, mask)
        return cls(filled[max(-2, -len(filled))], filled[-1], meta.boundary)

    @cached_property
    def moved(self) -> Advected:
        """The newest map carried along the flow between the two: most of what a glance costs."""
        return advect(self.before, self.now, self.boundary)

    def forecast(self, name: str, meta: FieldMeta, fit: Fit) -> Floats:
        """The next map (H, W) by the forecaster ``name``, of those that ``fit`` can serve."""
        told = self._told(name, fit)
        return np.asarray(np.maximum(told, 0), np.float32) if meta.positive else told

    def forecasts(self, meta: FieldMeta, fit: Fit | None = None) -> dict[str, Floats]:
        """The next map by each forecaster, in the order of `NAMES`; without climatology those that need none."""
        fit = fit or Fit()
        served = [name for name in NAMES if fit.climatology is not None or name not in FROM_CLIMATOLOGY]
        return {name: self.forecast(name, meta, fit) for name in served}

    def _told(self, name: str, fit: Fit) -> Floats:
        match name, fit.climatology:
            case "persistence", _:
                return self.now
            case "linear_extrapolation", _:
                return 2 * self.now - self.before
            case "advection", _:
                return self.moved.value
            case "lagrangian_increment", _:
                return self.moved.value + np.float32(fit.share) * self.moved.increment
            case "climatology", mean if mean is not None:
                return mean
            case "damped_persistence", mean if mean is not None:
                return mean + np.float32(fit.damping) * (self.now - mean)
        raise UnknownModel(f"no trivial forecaster {name!r} that this fit could serve; there are {', '.join(NAMES)}")


class Seen(NamedTuple):
    """A glance, the map that came (H, W), and where that was observed (None: everywhere)."""

    glance: Glance
    came: Floats
    there: Mask | None


def fitted_share(seen: Iterable[Seen]) -> float:
    """Least squares of what advection missed on the increment."""
    return _least_squares((one.glance.moved.increment, one.came - one.glance.moved.value, one.there) for one in seen)


def _fitted_damping(seen: Iterable[Seen], climatology: Floats) -> float:
    return _least_squares((one.glance.now - climatology, one.came - climatology, one.there) for one in seen)


def _least_squares(pairs: Iterable[tuple[Floats, Floats, Mask | None]]) -> float:
    """The factor of each first that comes closest to each second, where observed."""
    across = along = 0.0
    for cause, effect, there in pairs:
        counted = cause if there is None else cause * there
        across += float(np.vdot(counted, effect))
        along += float(np.vdot(counted, counted))
    return across / along if along > 0 else 0.0


def score_baselines(train: SequenceSet, test: SequenceSet, context: int = 2) -> dict[str, float]:
    """`Fit.score` on ``test`` of what was fitted on ``train``."""
    return Fit.on(train, context).score(test, context)


def best(scores: Mapping[str, float]) -> str:
    """The name of the strongest."""
    return min(scores, key=scores.__getitem__)


def _mean_map(data: SequenceSet) -> Floats:
    """(H, W); a cell that was never observed is filled from around."""
    total, count = np.zeros(data.grid), np.zeros(data.grid)
    for one in data:  # a trajectory at a time: arrays may be memory-mapped
        there = np.ones(one.values.shape, np.bool_) if one.mask is None else one.mask
        total += np.where(there, one.values, 0).sum(0, dtype=np.float64)
        count += there.sum(0)
    mean = np.asarray(total / np.maximum(count, 1), np.float32)
    (filled,) = fill_invalid(mean[None], count[None] > 0)
    return np.asarray(filled, np.float32)


def _missed(seen: Iterable[Seen], fit: Fit, meta: FieldMeta) -> dict[str, float]:
    told = [(one.glance.forecasts(meta, fit), one) for one in seen]
    if not told or not any(one.there is None or one.there.any() for _, one in told):
        return {}
    came = np.stack([one.came for _, one in told])
    there = np.stack([np.ones(one.came.shape, np.bool_) if one.there is None else one.there for _, one in told])
    return {name: rmse(np.stack([maps[name] for maps, _ in told]), came, there) for name in NAMES}


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
