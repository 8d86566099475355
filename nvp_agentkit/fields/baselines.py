"""Forecasts that need no network. A model is worth what it adds to the best of them.

- persistence: nothing changes;
- linear_extrapolation: every cell changes as it just did;
- advection: the last map drifts on along the optical flow;
- lagrangian_increment: advection, and a fitted share of what the moving value just gained.

Which one is best depends on the field: on plasma turbulence and daily ocean altimetry ``lagrangian_increment``, on
radar rain ``advection`` in one place and ``persistence`` in another.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import NamedTuple, Self

import numpy as np

from nvp_agentkit.errors import InvalidField
from nvp_agentkit.fields.advection import Advected, advect
from nvp_agentkit.fields.masking import fill_invalid
from nvp_agentkit.fields.metrics import vrmse
from nvp_agentkit.fields.sequence import FieldMeta, Floats, Mask, SequenceSet

NAMES = ("persistence", "linear_extrapolation", "advection", "lagrangian_increment")
FIT_WINDOWS = 64  # spread over the training data; the one fitted number moves by less than 0.02 beyond


class Glance(NamedTuple):
    """All that any of them looks at: the last two maps (H, W), and the newest carried along the flow between them."""

    before: Floats
    now: Floats
    moved: Advected

    @classmethod
    def at(cls, frames: Floats, meta: FieldMeta, mask: Mask | None = None) -> Self:
        """Look at ``frames`` (K, H, W), oldest first; of one frame alone all of them make persistence."""
        filled = fill_invalid(frames, mask)
        before, now = filled[max(-2, -len(filled))], filled[-1]
        return cls(before, now, advect(before, now, meta.boundary))

    def forecasts(self, meta: FieldMeta, share: float = 0.0) -> dict[str, Floats]:
        """The next map by each forecaster; ``share`` is of the Lagrangian increment, see `fitted_share`."""
        value, increment = self.moved
        maps = (self.now, 2 * self.now - self.before, value, value + np.float32(share) * increment)
        return {name: np.maximum(one, 0) if meta.positive else one for name, one in zip(NAMES, maps, strict=True)}


def fitted_share(seen: Iterable[tuple[Glance, Floats, Mask | None]]) -> float:
    """Least squares of what advection missed on the increment; what came (H, W) counts where it was observed."""
    across = along = 0.0
    for glance, came, there in seen:
        value, increment = glance.moved
        counted = increment if there is None else increment * there
        across += float(np.vdot(counted, came - value))
        along += float(np.vdot(counted, counted))
    return across / along if along > 0 else 0.0


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
    share = _share_of(train, context)
    told = [Glance.at(one.frames, test.meta, one.mask).forecasts(test.meta, share) for one in windows]
    there = np.stack(masks) if masks else None
    return {name: vrmse(np.stack([one[name] for one in told]), truth, there) for name in NAMES}


def best(scores: dict[str, float]) -> str:
    """The name of the strongest."""
    return min(scores, key=scores.__getitem__)


def _share_of(train: SequenceSet, context: int) -> float:
    windows = list(_windows(train, context))
    chosen = windows[:: max(1, len(windows) // FIT_WINDOWS)]
    return fitted_share((Glance.at(one.frames, train.meta, one.mask), one.target, one.target_mask) for one in chosen)


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
