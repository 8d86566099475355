"""Every simulator on 64x64 cells: how hard its next frame is to guess, and what a frame costs on one core.

Persistence and the best trivial forecaster: VRMSE one step ahead over half the trajectories, fitted on the other half.
``half_solver`` is the same equation on 32x32 cells that is given the whole hidden state: `domains.coarse`. CPU-seconds
are the process's own, a frame of one trajectory, without compiling.
"""

from __future__ import annotations

import time

import numpy as np

from benchmarks.one_core import pin
from benchmarks.verdict import Figure
from nvp_agentkit.domains import DOMAINS
from nvp_agentkit.domains.coarse import coarse_forecasts
from nvp_agentkit.domains.runs import Process, play
from nvp_agentkit.fields.baselines import best, score_baselines
from nvp_agentkit.fields.metrics import vrmse
from nvp_agentkit.fields.sequence import SequenceSet

SIZE = 64
HARDEST = 0.45  # persistence VRMSE


def measure(*, quick: bool) -> dict[str, Figure]:
    """12 runs of 41 frames of each domain and variant; quick: 2 of 6, too few for a floor."""
    pin()
    figures: dict[str, Figure] = {}
    for name, process in _processes().items():
        figures |= _measured(name, process, *((2, 6, None) if quick else (12, 41, HARDEST)))
    return figures


def _processes() -> dict[str, Process]:
    """By domain, and by domain and variant where that is not the first one."""
    found = {name: domain.chosen(SIZE, 0) for name, domain in DOMAINS.items()} | {
        f"{name}_{variant}": domain.chosen(SIZE, 0, variant)
        for name, domain in DOMAINS.items()
        for variant in list(domain.variants)[1:]
    }
    return dict(sorted(found.items()))


def _measured(name: str, process: Process, trajectories: int, frames: int, hardest: float | None) -> dict[str, Figure]:
    began_s = time.process_time()
    running = play(process, range(trajectories), frames)
    next(running)
    compiled_s = time.process_time()
    maps = [maps for _, maps in running]
    each_s = (time.process_time() - compiled_s) / len(maps) / trajectories
    values = np.stack([one for one in maps if one is not None][-frames:], axis=1)
    half = trajectories // 2
    made = SequenceSet(values, None, process.meta)
    scores = score_baselines(train=made.select(slice(half, None)), test=made.select(slice(half)))
    steps = process.meta.provenance["parameters"]["frame_steps"]
    trivial = best(scores)
    told = coarse_forecasts(process, 2, half, frames)
    return {
        f"{name}.{trivial}": Figure(round(scores[trivial], 3), "VRMSE"),
        f"{name}.advection": Figure(round(scores["advection"], 3), "VRMSE"),
        f"{name}.persistence": Figure(round(scores["persistence"], 3), "VRMSE", floor=hardest),
        f"{name}.half_solver": Figure(round(vrmse(told.forecast, told.truth), 3), "VRMSE"),
        f"{name}.step_ms": Figure(round(1000 * each_s / steps, 3), "ms"),
        f"{name}.frame_cpu_s": Figure(round(each_s, 4), "s"),
        f"{name}.compile_cpu_s": Figure(round(compiled_s - began_s - each_s * trajectories, 2), "s"),
    }
