"""Sequences from files that users bring: see `nvp_agentkit.arrayfile` for how they are opened."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from nvp_agentkit.arrayfile import open_array
from nvp_agentkit.errors import InvalidFile
from nvp_agentkit.fields.masking import fill_invalid
from nvp_agentkit.fields.sequence import FieldMeta, Floats, SequenceSet

LARGEST = 1e15  # squares of larger values, and sums of those, leave float32


def read_user_file(
    path: Path, array: str | None = None, *, domain: str, units: str | None = None, dt_s: float = 1.0, dx_m: float = 1.0
) -> SequenceSet:
    """Sequences from ``path``: one array (T, H, W) or (N, T, H, W) of any real dtype; NaN becomes the mask.

    Args:
        path: a .npy or .npz, recognised by its first bytes.
        array: which array of an .npz; needed if several could be meant.
        domain, units, dt_s, dx_m: what the numbers mean; the file cannot say.

    Raises:
        InvalidFile: anything else.
    """
    with open_array(path, array) as found:
        values = found.maps().reshape(found.header.shape)
    return _sequences(values, found.name, FieldMeta(domain, units or "1", dt_s, dx_m, provenance={"file": found.name}))


def _sequences(values: npt.NDArray[Any], name: str, meta: FieldMeta) -> SequenceSet:
    with np.errstate(over="ignore"):  # what float32 cannot hold becomes Inf, which is refused in a moment
        real: Floats = np.ascontiguousarray(values, np.float32).reshape((-1, *values.shape[-3:]))
    mask = ~np.isnan(real)
    if (huge := mask & ~(np.abs(real) <= LARGEST)).any():
        where = tuple(int(axis) for axis in np.argwhere(huge)[0])
        raise InvalidFile(
            f"{name}: {real[where]:g} at {where}, limit {LARGEST:g}; mark missing values as NaN, or change the unit"
        )
    if not mask.any():
        raise InvalidFile(f"{name}: every value is NaN; at least one must be observed")
    low, high = float(np.nanmin(real)), float(np.nanmax(real))
    if low == high:
        raise InvalidFile(f"{name}: every value is {low:g}; a field that never changes needs no forecast")
    if not mask.all():
        real = np.stack([fill_invalid(*pair) for pair in zip(real, mask, strict=True)])
    return SequenceSet(real, None if mask.all() else mask, replace(meta, positive=low >= 0))
