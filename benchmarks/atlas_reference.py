"""The reference task made anew: the pinned bytes, or else its statistics within tolerances.

`nvp atlas make --reference` makes the same datasets as jobs of a stack. Bytes are only expected where CPU type, threads
and versions match those that they were pinned on; elsewhere what a turbulence's trajectories share has to agree.
"""

from __future__ import annotations

import hashlib
import tempfile
from dataclasses import replace
from pathlib import Path

import numpy as np

from benchmarks.verdict import Figure
from nvp_agentkit.domains.hasegawa_wakatani import Parameters
from nvp_agentkit.domains.reference import reference
from nvp_agentkit.fields.metrics import vrmse
from nvp_agentkit.fields.sequence import SequenceSet
from nvp_agentkit.fields.storage import save
from nvp_agentkit.reference_task import FRAMES, PARTS, SIZE, SPLIT_NAMES

PERSISTENCE, TOTAL, LARGE_SCALES = 0.298, 1.85, 0.79  # VRMSE, mean E of a cell, share of the variance at k < 8
TOLERANCE = 0.2  # of each: the three splits differ from their mean by up to 0.05, 0.13 and 0.05


def measure(*, quick: bool) -> dict[str, Figure]:
    """Quick: stand-ins of 32x32 cells and 5 frames, held to nothing."""
    figures: dict[str, Figure] = {}
    parameters = replace(Parameters.for_size(32), spin_up=4.0) if quick else None
    with tempfile.TemporaryDirectory(prefix="nvp-") as folder:
        for split in SPLIT_NAMES:
            size, frames = (32, 5) if quick else (SIZE, FRAMES)
            made = reference(split, size=size, frames=frames, parameters=parameters)
            path = Path(folder) / split
            save(made, path)
            with path.open("rb") as stored:
                digest = f"sha256:{hashlib.file_digest(stored, 'sha256').hexdigest()}"
            path.unlink()
            print(f"{split}: {digest}{'' if digest == PARTS[split].digest else ', other bytes than those pinned'}")
            figures |= {f"{split}/{name}": figure for name, figure in _figures(made, held=not quick).items()}
    return figures


def _figures(made: SequenceSet, *, held: bool) -> dict[str, Figure]:
    values = np.asarray(made.values, np.float64)
    error = vrmse(values[:, :-1], values[:, 1:])
    total = float(values.mean())
    spectrum = np.abs(np.fft.fft2(values[:, ::20] - values[:, ::20].mean((-2, -1), keepdims=True))) ** 2
    y, x = (np.fft.fftfreq(side, 1 / side) for side in made.grid)
    large = float(spectrum[..., np.hypot(y[:, None], x) < 8].sum() / spectrum.sum())

    def off(value: float, expected: float) -> Figure:
        return Figure(abs(value / expected - 1), "share", floor=TOLERANCE if held else None)

    return {
        "persistence": Figure(error, "VRMSE"),
        "persistence_off": off(error, PERSISTENCE),
        "mean_energy": Figure(total, made.meta.units[:8]),
        "mean_energy_off": off(total, TOTAL),
        "large_scales": Figure(large, "share"),
        "large_scales_off": off(large, LARGE_SCALES),
    }
