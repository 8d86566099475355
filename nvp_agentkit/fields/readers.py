"""Sequences from files that users bring: see `nvp_agentkit.arrayfile` for how they are opened."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import cast

import numpy as np

from nvp_agentkit.arrayfile import OpenArray
from nvp_agentkit.arrayfile.meaning import MAX_UNITS
from nvp_agentkit.errors import InvalidFile
from nvp_agentkit.fields.derived import open_field
from nvp_agentkit.fields.masking import fill_invalid
from nvp_agentkit.fields.sequence import Boundary, Conservation, FieldMeta, Floats, Mask
from nvp_agentkit.fields.storage import SequenceWriter

UNSAID = "1"  # units of values of which nothing was said
LARGEST = 1e15  # squares of larger values, and sums of those, leave float32
MAX_STORED_CELLS = 2**28  # with a mask 1.25 GiB; a dataset travels as one artifact of at most 2 GiB
CELLS_AT_ONCE, CELLS_TOGETHER = 2**22, 2**25  # of frames by themselves, of frames that are packed together
Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class Meant:
    """What the user says of a file. Distances win over the file's own; units, if any, must agree with it.

    ``called``: the file's name where the user sees it.
    """

    domain: str
    units: str = UNSAID
    dt_s: float | None = None
    dx_m: float | None = None
    called: str | None = None


@dataclass(frozen=True)
class Taken:
    """What was taken in: shape (N, T, H, W), the meaning, and how many cells had no value."""

    shape: tuple[int, int, int, int]
    meta: FieldMeta
    missing: int


def take_in(
    path: Path,
    out: Path,
    meant: Meant,
    *,
    array: str | None = None,
    progress: Progress = lambda done, frames: None,
) -> Taken:
    """Copy the sequences of ``path`` into ``out`` (see `fields.storage`), some frames at a time; NaN becomes the mask.

    Args:
        path: whatever `open_array` opens.
        array: which array or variable, or = and a formula of some; needed if several could be meant.
        progress: told frames done and frames in all after each piece; may raise to end it.

    Raises:
        InvalidFile: it cannot be read safely, or is no field to learn from.
    """
    with open_field(path, array, dt_s=meant.dt_s, dx_m=meant.dx_m) as found:
        name, shape, cells, arrays = found.name, found.shape, math.prod(found.shape), 1 + len(found.channels)
        if arrays * cells > MAX_STORED_CELLS:
            raise InvalidFile(
                f"{name}: {arrays} x shape {shape} is {arrays * cells:,} cells, limit {MAX_STORED_CELLS:,}; "
                "cut or coarsen it"
            )
        meta = _meta(found, meant, (meant.called or path.name) + name.removeprefix(path.name))
        low, high, missing, done = math.inf, -math.inf, 0, 0
        with SequenceWriter(out, shape, meta, sorted(found.channels)) as writer:
            for values, mask, channels in _pieces(found):
                low = min(low, float(values.min(where=mask, initial=math.inf)))
                high = max(high, float(values.max(where=mask, initial=-math.inf)))
                missing += mask.size - int(np.count_nonzero(mask))
                writer.add(values, mask, channels)
                done += len(values)
                progress(done, shape[0] * shape[1])
            if missing == cells:
                raise InvalidFile(f"{name}: every value is NaN; at least one must be observed")
            if low == high:
                raise InvalidFile(f"{name}: every value is {low:g}; a field that never changes needs no forecast")
            meta = replace(meta, positive=low >= 0)
            writer.finish(meta, masked=missing > 0)
    return Taken(shape, meta, missing)


def _pieces(found: OpenArray) -> Iterator[tuple[Floats, Mask, dict[str, Floats]]]:
    """Frames (count, H, W) and where they were observed, filled elsewhere as `fill_invalid` fills a whole sequence.
    With them what their channels held.

    To go on where the last piece ended, its last frame is put before the next as if it had been observed wherever
    anything was so far.
    """
    trajectories, frames, height, width = found.shape
    count = max(CELLS_AT_ONCE // (height * width), min(found.frames_together, CELLS_TOGETHER // (height * width)), 1)
    count -= count % found.frames_together if count > found.frames_together else 0
    for trajectory in range(trajectories):
        last, known = np.zeros((1, height, width), np.float32), np.zeros((1, height, width), bool)
        for first in range(0, frames, count):
            values = found.window(trajectory, first, min(count, frames - first))
            mask = ~np.isnan(values)
            _check_values(found.name, values, mask, trajectory, first)
            channels = {
                name: _channel(one, mask, trajectory, first, len(values)) for name, one in found.channels.items()
            }
            if not mask.all():
                whole = fill_invalid(np.concatenate([last, values]), np.concatenate([known, mask]))
                values = whole[1:]
            last, known = values[-1:], known | np.logical_or.reduce(mask, axis=0, keepdims=True)
            yield values, mask, channels


def _channel(channel: OpenArray, mask: Mask, trajectory: int, first: int, count: int) -> Floats:
    """Its frames, 0 where it has no value and energy has none either."""
    values = channel.window(trajectory, first, count)
    there = ~np.isnan(values)
    _check_values(channel.name, values, there, trajectory, first)
    if (lost := mask & ~there).any():
        frame, row, column = (int(number) for number in np.argwhere(lost)[0])
        raise InvalidFile(
            f"{channel.name}: no value at {(trajectory, first + frame, row, column)}, where energy has one; "
            "leave the channel away, or mark energy as missing there"
        )
    return np.where(there, values, np.float32(0))


def _check_values(name: str, values: Floats, mask: Mask, trajectory: int, first: int) -> None:
    huge = mask & ~(np.abs(values) <= LARGEST)
    if huge.any():
        frame, row, column = (int(number) for number in np.argwhere(huge)[0])
        raise InvalidFile(
            f"{name}: {values[frame, row, column]:g} at {(trajectory, first + frame, row, column)}, limit {LARGEST:g}; "
            "mark missing values as NaN, or change the unit"
        )


def _meta(found: OpenArray, meant: Meant, file: str) -> FieldMeta:
    said = found.meaning
    units = said.agreed_units(None if meant.units == UNSAID else meant.units, found.name) or UNSAID
    if len(units) > MAX_UNITS:
        raise InvalidFile(f"{found.name}: units of {len(units)} characters, limit {MAX_UNITS}; say units in short")
    channels = {name: one.meaning.units or UNSAID for name, one in found.channels.items()}
    return FieldMeta(
        meant.domain,
        units,
        dt_s=said.dt_s or 1.0,
        dx_m=said.dx_m or 1.0,
        boundary=cast("tuple[Boundary, Boundary]", said.boundary or ("open", "open")),
        conservation=cast("Conservation", said.conservation or "open"),
        provenance={"file": file, **said.facts} | ({"channels": channels} if channels else {}),
        start_ms=said.start_ms or 0,
    )
