"""The equation of the reference task on cells twice as wide: told everything, and told what a forecaster is told."""

from __future__ import annotations

import numpy as np

from benchmarks.cells import Numbers
from benchmarks.reference_data import STAND_IN
from nvp_agentkit.domains.blind import BlindSolver
from nvp_agentkit.domains.coarse import coarse_forecasts
from nvp_agentkit.domains.plasma_physics import process
from nvp_agentkit.domains.reference import PARAMETERS
from nvp_agentkit.domains.runs import Process
from nvp_agentkit.fields.metrics import vrmse
from nvp_agentkit.fields.sequence import SequenceSet
from nvp_agentkit.reference_task import PARTS, SIZE, Split

WIDER = 2
TAUGHT, TAUGHT_FRAMES = 4, 21  # training trajectories and frames of them, in which the blind one looks for its like
SOLVERS = f"solvers-{WIDER}-{TAUGHT}-{TAUGHT_FRAMES}"  # a cell's name: what it depends on


def solver_lines(test: SequenceSet, every: int, *, density: bool) -> Numbers:
    """VRMSE by name, one step ahead from every so many-th frame, as forecasters of two frames are judged."""
    size = test.grid[0]
    blind = BlindSolver.taught(_process("train", size, density), WIDER, TAUGHT, min(TAUGHT_FRAMES, test.frames))
    starts = range(0, test.frames - blind.context_frames, every)
    said = [blind.predict_next(test.values[:, start : start + blind.context_frames])[0] for start in starts]
    whole = coarse_forecasts(_process("test", size, density), WIDER, test.trajectories, test.frames)
    next_ones = [start + blind.context_frames for start in starts]
    came, told = test.values[:, next_ones], whole.forecast[:, [one - 1 for one in next_ones]]
    return {f"solver_{WIDER}x_wider_told_all": vrmse(told, came), blind.name: vrmse(np.stack(said, 1), came)}


def _process(split: Split, size: int, density: bool) -> Process:
    return process(size, PARTS[split].seed, PARAMETERS if size == SIZE else STAND_IN, density=density)
