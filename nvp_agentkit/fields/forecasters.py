"""One signature for whoever forecasts: a trivial forecaster, a network, a solver, somebody's own."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Protocol, runtime_checkable

import numpy as np
import numpy.typing as npt

from nvp_agentkit.errors import InvalidField
from nvp_agentkit.fields.baselines import NAMES, Fit, Glance
from nvp_agentkit.fields.metrics import SMALLEST_SIGMA
from nvp_agentkit.fields.sequence import FieldMeta, Floats, Mask, SequenceSet


class Forecaster(Protocol):
    """Maps in, the next map out.

    ``predict_next`` takes frames (B, K, H, W), oldest first, the field's unit, and a mask of that shape (True where
    observed; None: wherever finite). It gives the mean (B, H, W) and the log-variance (B, H, W) of that unit squared.
    """

    @property
    def name(self) -> str: ...

    @property
    def context_frames(self) -> int:
        """How many frames it looks at."""

    def predict_next(self, frames: npt.ArrayLike, mask: Mask | None = None) -> tuple[Floats, Floats]: ...


@runtime_checkable
class FarSighted(Protocol):
    """A forecaster that has a way of its own of looking several steps ahead; as `rollout`."""

    def rollout(self, frames: npt.ArrayLike, steps: int, mask: Mask | None = None) -> tuple[Floats, Floats]: ...


@dataclass(frozen=True)
class TrivialForecaster:
    """A baseline with what it has learnt. Its doubt is one number: the RMS of what it missed in training."""

    name: str
    meta: FieldMeta
    fit: Fit
    context_frames: ClassVar[int] = 2

    def predict_next(self, frames: npt.ArrayLike, mask: Mask | None = None) -> tuple[Floats, Floats]:
        """See `Forecaster`.

        Raises:
            InvalidField: not (B, K, H, W), or another grid than the climatology's.
        """
        values = np.asarray(frames, np.float32)
        if values.ndim != 4 or 0 in values.shape:
            raise InvalidField(f"frames have shape {values.shape}; give (B, K, H, W)")
        climatology = self.fit.climatology
        if climatology is not None and climatology.shape != values.shape[2:]:
            raise InvalidField(f"frames of {values.shape[2:]} cells, fitted on {climatology.shape}; give that grid")
        there = np.isfinite(values) if mask is None else mask & np.isfinite(values)
        mean = np.stack([self._next(*pair) for pair in zip(values, there, strict=True)])
        sigma = max(self.fit.sigma[self.name], SMALLEST_SIGMA)
        return mean, np.full(mean.shape, 2 * np.log(sigma), np.float32)

    def _next(self, frames: Floats, there: Mask) -> Floats:
        glance = Glance.at(np.where(there, frames, np.float32(0)), self.meta, there)
        return glance.forecast(self.name, self.meta, self.fit)


def trivial_forecasters(train: SequenceSet) -> tuple[TrivialForecaster, ...]:
    """All of `NAMES`, fitted on ``train``.

    Raises:
        InvalidField: nothing was observed there that two frames came before.
    """
    fit = Fit.on(train, TrivialForecaster.context_frames)
    if not fit.sigma:
        raise InvalidField(
            f"{train.trajectories} x {train.frames} frames to learn from, and none observed after two others; "
            "bring longer or fuller sequences"
        )
    return tuple(TrivialForecaster(name, train.meta, fit) for name in NAMES)


def rollout(
    forecaster: Forecaster, frames: npt.ArrayLike, steps: int, mask: Mask | None = None
) -> tuple[Floats, Floats]:
    """``steps`` maps ahead, each from those before it.

    Args:
        forecaster: who forecasts; one that is `FarSighted` does so in its own way.
        frames: (B, K, H, W), oldest first; ``mask`` of that shape.
        steps: how many, at least 1.

    Returns:
        Means and log-variances, (B, steps, H, W) each. Steps are taken to err independently of each other, so
        variances add up: too little where errors grow on themselves. A cell that no frame shown has stays without a
        value for the next steps.

    Raises:
        InvalidField: no step asked for, or frames that the forecaster refuses.
    """
    if steps < 1:
        raise InvalidField(f"{steps} steps; give at least 1")
    if isinstance(forecaster, FarSighted):
        return forecaster.rollout(frames, steps, mask)
    shown = np.asarray(frames, np.float32)
    there = np.isfinite(shown) if mask is None else np.asarray(mask, np.bool_)
    known: Mask = np.asarray(there.any(axis=1))
    means, variances = [], []
    variance = np.zeros(shown.shape[:1] + shown.shape[2:], np.float64)
    for _ in range(steps):
        mean, log_var = forecaster.predict_next(shown, there)
        variance = variance + np.exp(log_var.astype(np.float64))
        means.append(mean)
        variances.append(variance)
        shown, there = (
            np.concatenate([old, new[:, None]], axis=1)[:, -forecaster.context_frames :]
            for old, new in ((shown, mean), (there, known))
        )
    return np.stack(means, 1), np.log(np.stack(variances, 1)).astype(np.float32)
