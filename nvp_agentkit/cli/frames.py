"""The frames of a user's file that a forecast is asked from, and what came after them."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nvp_agentkit.arrayfile import Meaning, file_and_array, open_array
from nvp_agentkit.errors import InvalidField, InvalidInput

SHOWN = 3  # most models look at two, a trivial forecaster and the starter try themselves on the third
SHOWN_LIGHT, LIGHT = 8, 256**2  # cells: of no more than these it costs little to show all that a model may look at

Floats = NDArray[np.float32]
Mask = NDArray[np.bool_]


@dataclass(frozen=True)
class Frames:
    """What is shown (K, H, W), the number of the frame it leads to, and that frame where the file has it.

    ``valid`` (H, W) leaves out the cells that had no value in one of them.
    """

    source: str
    target: int
    shown: Floats
    valid: Mask
    truth: Floats | None = None
    meaning: Meaning = field(default_factory=Meaning)

    @property
    def last(self) -> Floats:
        newest: Floats = self.shown[-1]
        return newest

    @property
    def said(self) -> dict[str, Any]:
        """What the file says of units, times and distances, as `AgentClient.predict` takes it."""
        told = self.meaning
        found: dict[str, Any] = {}
        if told.units is not None:
            found["units"] = told.units
        if told.dx_m is not None and "length_unit" not in told.facts:
            found["dx_m"] = told.dx_m
        if told.dt_s is not None and "time_unit" not in told.facts:
            found["dt_s"] = told.dt_s
            if told.start_ms is not None:
                last_ms = told.start_ms + round(1000 * told.dt_s * (self.target - 1))
                found["frame_time"] = np.datetime64(last_ms, "ms")
        return found


def read_frames(asked: str, *, frame: int | None = None, trajectory: int = 0, fill: float | None = None) -> Frames:
    """The last frames of ``asked`` (FILE[:NAME]), or those before ``frame``; no other is read.

    Args:
        asked: whatever `open_array` opens.
        frame: the number of the frame to forecast, counted from 0, or from the end if negative; None: the one that
            would come next.
        trajectory: which of N.
        fill: what to put where a cell has no value.

    Raises:
        InvalidFile: it cannot be read safely.
        InvalidInput: no such frame or trajectory.
        InvalidField: cells without a value, and nothing to fill them with.
    """
    with open_array(*file_and_array(asked)) as found:
        trajectories, frames, *grid = found.shape
        if not 0 <= trajectory < trajectories:
            raise InvalidInput(f"trajectory {trajectory}: {found.name} has {trajectories}, counted from 0")
        target = _target(frame, frames, found.name)
        first = max(0, target - (SHOWN_LIGHT if math.prod(grid) <= LIGHT else SHOWN))
        values = found.window(trajectory, first, min(target + 1, frames) - first)
    if len(holed := np.flatnonzero(np.isnan(values[: max(target - first - SHOWN, 0)]).any((1, 2)))):
        left_out = int(holed[-1]) + 1  # nothing needs the older frames so much that they would be filled
        first, values = first + left_out, values[left_out:]
    shown, came = values[: target - first], values[target - first :]
    missing = np.isnan(shown)
    if missing.any():
        if fill is None:
            raise InvalidField(
                f"{found.name}: {int(missing.sum()):,} of {missing.size:,} cells in frames {first} to {target - 1} are "
                "NaN, and a request needs every value; say what to put there (--fill 0), or train on the file, "
                "which leaves such cells out (nvp demo --data)"
            )
        shown = np.where(missing, np.float32(fill), shown)
    valid = np.logical_and.reduce(~missing, axis=0) & np.logical_and.reduce(np.isfinite(came), axis=0)
    if not valid.any():
        raise InvalidField(f"{found.name}: no cell has a value in all of frames {first} to {target}; choose others")
    truth = came[0] if len(came) else None
    return Frames(found.name, target, shown, valid, truth, found.meaning)


def rmse(one: Floats, other: Floats, valid: Mask) -> float:
    """Root mean square of the difference (H, W) over the cells that have a value."""
    return float(np.sqrt(np.mean((one[valid].astype(np.float64) - other[valid]) ** 2)))


def _target(frame: int | None, frames: int, name: str) -> int:
    if frame is None:
        return frames
    target = frame + frames if frame < 0 else frame
    if not 1 <= target < frames:
        raise InvalidInput(
            f"frame {frame}: {name} has frames 0 to {frames - 1}, and one must be known before; give 1 to "
            f"{frames - 1}, or leave --frame away for the one that would come next"
        )
    return target
