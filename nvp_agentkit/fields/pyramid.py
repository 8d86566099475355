"""The same sequence on coarser grids. A level keeps the *mean* of what it covers: one amplitude and unit for all."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import numpy.typing as npt

from nvp_agentkit.errors import InvalidField
from nvp_agentkit.fields.sequence import EnergySequence

LEVELS = (64, 128, 256)  # cells of the shorter side


def pyramid(sequence: EnergySequence) -> dict[int, EnergySequence]:
    """The levels that are coarser than ``sequence`` or as fine, by the cells of their shorter side."""
    return {level: coarsened(sequence, level) for level in LEVELS if level <= min(sequence.values.shape[1:])}


def coarsened(sequence: EnergySequence, side: int) -> EnergySequence:
    """``sequence`` with ``side`` cells on its shorter side, each the mean of what was observed in its area.

    Where nothing of it was, it is masked, and holds the mean of the fill. The provenance says "mean".

    Raises:
        InvalidField: finer than the sequence is.
    """
    height, width = sequence.values.shape[1:]
    if not 1 <= side <= min(height, width):
        raise InvalidField(f"{side} cells a side of {height} x {width}; a pyramid only coarsens: give at most "
                           f"{min(height, width)}")
    ratio = side / min(height, width)
    rows, columns = (_shares(cells, round(cells * ratio)) for cells in (height, width))
    values = rows @ sequence.values.astype(np.float64) @ columns.T
    mask = None
    if sequence.mask is not None:
        seen = rows @ sequence.mask.astype(np.float64) @ columns.T
        observed = rows @ np.where(sequence.mask, sequence.values, 0.0) @ columns.T
        mask = seen > 0
        values = np.where(mask, observed / np.where(mask, seen, 1.0), values)
    meta = sequence.meta.noting(pyramid={"keeps": "mean", "level": side, "from": [height, width]})
    return EnergySequence(values.astype(np.float32), mask, replace(meta, dx_m=meta.dx_m / ratio))


def _shares(fine: int, coarse: int) -> npt.NDArray[np.float64]:
    """(coarse, fine): how much of each coarse cell a fine one covers; rows add up to 1, columns to coarse / fine."""
    edges = np.arange(coarse + 1) * (fine / coarse)
    low, high = np.arange(fine), np.arange(1, fine + 1)
    covered = np.minimum(edges[1:, None], high) - np.maximum(edges[:-1, None], low)
    shares: npt.NDArray[np.float64] = np.clip(covered, 0, None) * (coarse / fine)
    return shares
