"""A sequence of energy maps, and a set of them, with all that their numbers mean."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Any, Literal, Self, get_args

import numpy as np
import numpy.typing as npt

from nvp_agentkit.errors import InvalidField

Floats = npt.NDArray[np.float32]
Mask = npt.NDArray[np.bool_]
Boundary = Literal["periodic", "reflecting", "open"]
# The mode of `numpy.pad` (and of JAX's) that goes on beyond such an edge.
PADDING: Mapping[str, str] = {"periodic": "wrap", "reflecting": "symmetric", "open": "edge"}
Conservation = Literal["closed", "dissipative", "open"]

MIN_CELLS = 16  # a side shorter than this has no scales to learn
SMALL_SIDE = 128  # cells; on fields with a shorter one, what moves is a few cells wide (docs/decisions/046)


@dataclass(frozen=True)
class FieldMeta:
    """What the numbers of a sequence mean.

    Attributes:
        domain: the process, e.g. ``plasma_physics``; names the model that forecasts it.
        units: of one value, free text.
        dt_s: time between frames; a simulator counts in its own time unit and says so in ``provenance``.
        dx_m: distance between cells, likewise.
        boundary: per axis (y, x).
        conservation: what becomes of the total: kept (closed), only lost (dissipative), anything (open).
        positive: True if no value can be negative.
        provenance: JSON-able facts on where the values come from.
        start_ms: time of the first frame, milliseconds since 1970; 0 if it has none.
    """

    domain: str
    units: str = "1"
    dt_s: float = 1.0
    dx_m: float = 1.0
    boundary: tuple[Boundary, Boundary] = ("open", "open")
    conservation: Conservation = "open"
    positive: bool = False
    provenance: Mapping[str, Any] = field(default_factory=dict)
    start_ms: int = 0

    def __post_init__(self) -> None:
        if any(side not in get_args(Boundary) for side in self.boundary) or len(self.boundary) != 2:
            raise InvalidField(f"boundary {self.boundary}: give two (y, x) of {', '.join(get_args(Boundary))}")
        if self.conservation not in get_args(Conservation):
            raise InvalidField(f"conservation {self.conservation!r}: give one of {', '.join(get_args(Conservation))}")
        for name, value in (("dt_s", self.dt_s), ("dx_m", self.dx_m)):
            if not (math.isfinite(value) and value > 0):
                raise InvalidField(f"{name} is {value}; give a finite number above 0")

    def to_json(self) -> str:
        """Canonical: one meaning, one text."""
        return json.dumps(asdict(self), sort_keys=True, separators=(",", ":"), allow_nan=False)

    @classmethod
    def from_json(cls, text: str) -> Self:
        """Raises `InvalidField` if ``text`` does not describe a field."""
        try:
            facts = json.loads(text)
            return cls(**{**facts, "boundary": tuple(facts["boundary"])})
        except (ValueError, TypeError, KeyError, RecursionError) as error:
            raise InvalidField(f"not a description of a field: {error}") from error

    def noting(self, **facts: Any) -> Self:
        """The same with ``facts`` added to the provenance."""
        return replace(self, provenance={**self.provenance, **facts})


def check_grid(shape: tuple[int, ...], axes: int, what: str) -> None:
    """Refuse a shape that is no sequence of ``axes`` axes with at least 16 cells a side."""
    if len(shape) != axes or 0 in shape:
        wanted = "(N, T, H, W)" if axes == 4 else "(T, H, W)"
        raise InvalidField(f"{what} have shape {shape}; give {wanted}, no axis empty")
    if min(shape[-2:]) < MIN_CELLS:
        cells = f"{shape[-2]} x {shape[-1]}"
        raise InvalidField(f"{what} are {cells} cells; the limit is {MIN_CELLS} a side: bring a larger field")


def _check_channels(channels: Mapping[str, Floats], energy: Floats) -> None:
    for name, values in channels.items():
        if values.shape != energy.shape or values.dtype != np.float32:
            raise InvalidField(
                f"channel {name} is {values.dtype} {values.shape}, energy float32 {energy.shape}; make them alike"
            )


@dataclass(frozen=True)
class EnergySequence:
    """One trajectory.

    Attributes:
        values: (T, H, W) float32, always finite; an invalid cell holds a plausible fill.
        mask: (T, H, W), True where the value was observed; None if all were.
        channels: what else there is of the state, by name; as in `SequenceSet`.
    """

    values: Floats
    mask: Mask | None
    meta: FieldMeta
    channels: Mapping[str, Floats] = field(default_factory=dict)

    def __post_init__(self) -> None:
        check_grid(self.values.shape, 3, "values")
        if self.mask is not None and self.mask.shape != self.values.shape:
            raise InvalidField(f"mask has shape {self.mask.shape}, values {self.values.shape}; make them equal")
        _check_channels(self.channels, self.values)

    def __len__(self) -> int:
        return int(self.values.shape[0])


@dataclass(frozen=True)
class SequenceSet:
    """N trajectories of one process on one grid. Arrays may be memory-mapped: slice before you compute.

    Attributes:
        values: (N, T, H, W) float32, always finite; an invalid cell holds a plausible fill.
        mask: (N, T, H, W), True where the value was observed; None if all were.
        channels: what else there is of the state, by name, arrays like ``values``: energy is what forecasters see. A
            cell that the mask leaves out holds 0 or what was there.
    """

    values: Floats
    mask: Mask | None
    meta: FieldMeta
    channels: Mapping[str, Floats] = field(default_factory=dict)

    def __post_init__(self) -> None:
        check_grid(self.values.shape, 4, "values")
        if self.values.dtype != np.float32:
            raise InvalidField(f"values are {self.values.dtype}; convert them to float32")
        if self.mask is not None and (self.mask.shape != self.values.shape or self.mask.dtype != np.bool_):
            raise InvalidField(
                f"mask is {self.mask.dtype} {self.mask.shape}, values have shape {self.values.shape}; "
                "give a boolean mask of the same shape"
            )
        _check_channels(self.channels, self.values)

    def __len__(self) -> int:
        return self.trajectories

    def __getitem__(self, index: int) -> EnergySequence:
        mask = None if self.mask is None else self.mask[index]
        channels = {name: values[index] for name, values in self.channels.items()}
        return EnergySequence(self.values[index], mask, self.meta, channels)

    def __iter__(self) -> Iterator[EnergySequence]:
        return (self[index] for index in range(self.trajectories))

    @property
    def trajectories(self) -> int:
        return int(self.values.shape[0])

    @property
    def frames(self) -> int:
        return int(self.values.shape[1])

    @property
    def grid(self) -> tuple[int, int]:
        """(H, W)."""
        return int(self.values.shape[2]), int(self.values.shape[3])

    def select(self, trajectories: slice = slice(None), frames: slice = slice(None)) -> SequenceSet:
        """A part, without copying."""
        mask = None if self.mask is None else self.mask[trajectories, frames]
        channels = {name: values[trajectories, frames] for name, values in self.channels.items()}
        return SequenceSet(self.values[trajectories, frames], mask, self.meta, channels)
