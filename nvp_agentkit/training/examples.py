"""Windows of a sequence set as batches: which frames, in which order, rolled and cropped how.

Everything is a function of (seed, step), nothing is remembered, so a resumed run sees the same batches.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from functools import cached_property, lru_cache
from typing import Any, NamedTuple, Self

import numpy as np
import numpy.typing as npt

from nvp_agentkit.errors import InvalidField
from nvp_agentkit.fields.sequence import SequenceSet
from nvp_agentkit.model.beside import normalised
from nvp_agentkit.model.bundle import Floats, Normalization
from nvp_agentkit.model.config import NVPConfig
from nvp_agentkit.model.novelty import COUNTED, Novelty, Numbers, descriptors
from nvp_agentkit.model.predict import Mask, normalise, origins
from nvp_agentkit.training.member_config import MemberConfig

ORIGIN_BYTES = 2**28  # of origins kept: 682 windows of 128x128
SHELF = 64  # windows that crops are cut from at a time: finding a window's origin costs as much as a crop's training
SHORTER = 0.125  # of windows show fewer frames than the network takes, for so do some who ask
HALO = 8  # cells inside a crop's edge that carry no loss: what flows in there cannot be known


class Batch(NamedTuple):
    """Normalised, ready for a step.

    ``frames``, ``valid``: (B, h, w, K); ``origin``: (B, h, w, 6), see `flow.origin`; ``target``, ``weight``:
    (B, h, w). ``later``, ``later_weight``: (B, h, w, n - 1), the same of the frames after ``target`` where the loss
    looks n steps ahead. ``beside``: (B, h, w, N), the maps that the network is shown beside the frames, if any.
    """

    frames: Floats
    valid: Floats
    origin: Floats
    target: Floats
    weight: Floats
    later: Floats | None = None
    later_weight: Floats | None = None
    beside: Floats | None = None

    def ahead(self, steps: int) -> Batch:
        """With targets for so many steps."""
        if self.later is None or self.later_weight is None or steps == 1:
            return self._replace(later=None, later_weight=None)
        return self._replace(later=self.later[..., : steps - 1], later_weight=self.later_weight[..., : steps - 1])


class Examples:
    """All windows of a set, context and ``ahead`` targets, drawn without replacement epoch by epoch."""

    def __init__(self, data: SequenceSet, config: NVPConfig, units: Normalization, crop: int, ahead: int = 1) -> None:
        self.context, self.ahead = config.context_frames, ahead
        self.count = windows(data, self.context, ahead)
        self.data, self.units = data, units
        self._rolls = [side == "periodic" for side in config.boundary]
        self._crop = crop
        self._sides = [min(crop, side) for side in data.grid]
        self._config = config
        self._origins: dict[int, Floats] = {}
        self._room = max(1, ORIGIN_BYTES // (24 * math.prod(data.grid)))
        self._shelf = min(SHELF, self._room, self.count)
        self._visits = math.prod(full // side for full, side in zip(data.grid, self._sides, strict=True))
        self.step_variance = self._step_variance()

    @classmethod
    def of(cls, data: SequenceSet, config: MemberConfig) -> Self:
        """As ``config`` wants them, in units fitted to ``data``."""
        units = Normalization.fit(data.values, data.mask)
        return cls(data, config.model_config, units, config.crop, config.rollout_steps)

    def novelty(self, held_out: SequenceSet) -> Novelty:
        """What of other data is unlike these, as seen from ``held_out``, trajectories that are none of these."""
        others = type(self)(held_out, self._config, self.units, self._crop)
        return Novelty.fit(self.described, others.described)

    @cached_property
    def described(self) -> Numbers:
        """`model.novelty.descriptors` of at most `COUNTED` windows spread over the set."""
        chosen = np.unique(np.linspace(0, self.count - 1, COUNTED).round().astype(int))
        return np.concatenate(
            [descriptors(*(part[None, ..., : self.context] for part in self._normalised(int(i)))) for i in chosen]
        )

    @cached_property
    def beside_units(self) -> tuple[Normalization, ...]:
        """Of each map that the network is shown beside the frames."""
        return tuple(Normalization.fit(_channel(self.data, name), self.data.mask) for name in self._config.beside)

    @property
    def network(self) -> NVPConfig:
        """The network as these windows can train it: of a crop no total is known, for things pass its edges."""
        whole = tuple(self._sides) == self.data.grid
        return self._config if whole else replace(self._config, conservation="open")

    def batch(self, seed: int, step: int, size: int) -> Batch:
        """The ``step``-th batch; a set smaller than ``size`` repeats."""
        cut = [self._window(seed, step * size + place) for place in range(size)]
        stacked: Any = [None if part[0] is None else np.stack(part) for part in zip(*cut, strict=True)]
        return Batch(*stacked)

    def _window(self, seed: int, place: int) -> Batch:
        """One, without the axis of a batch."""
        index = self._number(seed, place)
        rng = np.random.default_rng([seed, 2, place])
        shown, valid = self._normalised(index)
        arrays = [shown, valid, self._origin(index, shown), *self._beside(index)]
        (shown, valid, origin, *beside), weight = self._place(arrays, rng)
        self._shorten([shown, valid], rng)
        past, target, later = slice(self.context), self.context, slice(self.context + 1, None)
        window = Batch(shown[..., past], valid[..., past], origin, shown[..., target], valid[..., target] * weight)
        if beside:
            window = window._replace(beside=beside[0])
        if self.ahead == 1:
            return window
        return window._replace(later=shown[..., later], later_weight=valid[..., later] * weight[..., None])

    def _beside(self, index: int) -> list[Floats]:
        """The maps beside the newest frame of a window, (H, W, N), where the network is shown any."""
        trajectory, start = self._place_of(index)
        maps = beside_frames(self.data, self._config.beside, [(trajectory, start + self.context - 1)])
        return [normalised([values[0] for values in maps.values()], self.beside_units)] if maps else []

    def _shorten(self, arrays: list[Floats], rng: np.random.Generator) -> None:
        """Now and then as if fewer frames were known (two at least: of one no flow is): the oldest of them repeated."""
        if self.context > 2 and rng.random() < SHORTER:
            first = self.context - int(rng.integers(2, self.context))
            for array in arrays:
                array[..., :first] = array[..., first : first + 1]

    def _number(self, seed: int, place: int) -> int:
        """Which window: a shelf of them is gone through once for each crop that fits into one, then the next shelf."""
        shelf, within = divmod(place, self._shelf * self._visits)
        epoch, position = divmod(shelf * self._shelf + within % self._shelf, self.count)
        return int(epoch_order(self.count, seed, epoch)[position])

    def _normalised(self, index: int) -> tuple[Floats, Floats]:
        trajectory, start = self._place_of(index)
        span = (trajectory, slice(start, start + self.context + self.ahead))
        values = np.asarray(self.data.values[span])[None]
        mask = np.isfinite(values) if self.data.mask is None else np.asarray(self.data.mask[span], bool)[None]
        shown, valid = normalise(values, mask, self.units)
        return shown[0], valid[0]

    def _place_of(self, index: int) -> tuple[int, int]:
        """Its trajectory and first frame."""
        return divmod(index, self.data.frames - self.context - self.ahead + 1)

    def _origin(self, index: int, shown: Floats) -> Floats:
        """Where the values of a window came from, found once and kept while there is room."""
        if index not in self._origins:
            if len(self._origins) >= self._room:
                self._origins.pop(next(iter(self._origins)))
            self._origins[index] = origins(self._config, shown[None, ..., : self.context])[0]
        return self._origins[index]

    def _place(self, arrays: list[Floats], rng: np.random.Generator) -> tuple[list[Floats], Floats]:
        """Roll along periodic axes, cut the crop, and weigh its halo with nothing."""
        weight = np.ones(self._sides, np.float32)
        for axis, (full, side) in enumerate(zip(self.data.grid, self._sides, strict=True)):
            first = int(rng.integers(full if self._rolls[axis] else full - side + 1))
            taken = (first + np.arange(side)) % full
            arrays = [array.take(taken, axis) for array in arrays]
            if side < full:
                edge = np.arange(side)
                inside = ((edge >= HALO) & (edge < side - HALO)).astype(np.float32)
                weight = weight * (inside[:, None] if axis == 0 else inside)
        return arrays, weight

    def _step_variance(self) -> float:
        """Mean square of the step from frame to frame, normalised: persistence's loss is then about 1."""
        values = np.asarray(self.data.values)
        change = (values[:, 1:] - values[:, :-1]) / np.float32(self.units.scale)
        if self.data.mask is not None:
            change = change[np.asarray(self.data.mask)[:, 1:] & np.asarray(self.data.mask)[:, :-1]]
        return max(float(np.mean(np.square(change, dtype=np.float64))) if change.size else 1.0, 1e-12)


@lru_cache(maxsize=4)
def epoch_order(count: int, seed: int, epoch: int) -> npt.NDArray[np.int64]:
    """Numbers below ``count`` as epoch ``epoch`` takes them."""
    return np.random.default_rng([seed, 1, epoch]).permutation(count)


def windows(data: SequenceSet, context: int, ahead: int = 1) -> int:
    """Number of windows; `InvalidField` where a trajectory is too short for one."""
    least = context + ahead
    if data.frames < least:
        told = f"a context of {context}" if ahead == 1 else f"a context of {context} and {ahead} steps ahead"
        raise InvalidField(f"trajectories of {data.frames} frames; {told} needs at least {least}")
    return data.trajectories * (data.frames - least + 1)


def beside_frames(data: SequenceSet, names: Sequence[str], places: Sequence[tuple[int, int]]) -> dict[str, Floats]:
    """By name the channel's map at each (trajectory, frame), (N, H, W), NaN where nothing was observed."""
    found = {name: np.stack([_channel(data, name)[place] for place in places]) for name in names}
    if data.mask is not None and found:
        seen = np.stack([data.mask[place] for place in places])
        found = {name: np.where(seen, values, np.float32(np.nan)) for name, values in found.items()}
    return found


def _channel(data: SequenceSet, name: str) -> Floats:
    if name not in data.channels:
        there = ", ".join(sorted(data.channels)) or "none"
        raise InvalidField(f"the network looks at {name} beside the field; the data have these channels: {there}")
    return data.channels[name]


def newest_places(data: SequenceSet, context: int) -> list[tuple[int, int]]:
    """(trajectory, newest frame shown) of every window in order."""
    return [(n, t + context - 1) for n in range(data.trajectories) for t in range(data.frames - context)]


def all_windows(data: SequenceSet, context: int) -> tuple[Floats, Mask | None, Floats, Mask | None]:
    """Every window in order, as `predict_next` takes them: frames (N, K, H, W), mask, target (N, H, W), mask."""
    windows(data, context)
    places = newest_places(data, context)
    frames = np.stack([data.values[n, t - context + 1 : t + 1] for n, t in places])
    target = np.stack([data.values[n, t + 1] for n, t in places])
    if data.mask is None:
        return frames, None, target, None
    seen = np.stack([data.mask[n, t - context + 1 : t + 1] for n, t in places])
    return frames, seen, target, np.stack([data.mask[n, t + 1] for n, t in places])
