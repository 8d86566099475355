"""Trivial forecasters and coarse solvers on every simulator, with intervals and joules; advection against pySTEPS.

``solver_*`` is given the whole hidden state, more than any forecaster sees; ``blind_solver_*`` energy alone, as they
are (quick: in the first domain only).
"""

from __future__ import annotations

import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import jax
import numpy as np

from benchmarks.throwaway import environment
from benchmarks.verdict import Figure
from nvp_agentkit.domains import DOMAINS
from nvp_agentkit.domains.blind import BlindSolver
from nvp_agentkit.domains.coarse import coarse_forecasts
from nvp_agentkit.domains.runs import Process
from nvp_agentkit.energy.sensors import WATTS_PER_CORE
from nvp_agentkit.errors import InvalidInput
from nvp_agentkit.fields.forecasters import Forecaster, trivial_forecasters
from nvp_agentkit.fields.metrics import h1, vrmse, vrmse_terms
from nvp_agentkit.fields.scoreboard import Row, scoreboard
from nvp_agentkit.fields.scores import Interval, bootstrap_by_trajectory
from nvp_agentkit.fields.sequence import Floats, SequenceSet

SHAPE, QUICK_SHAPE = (12, 15, 64), (4, 6, 32)
TRAIN = 2 / 3
FACTORS = (2, 4)
BLIND_FACTOR = 2
TIMED = 10  # frames
LARGEST_RATIO = 1.1
PYSTEPS_S = 600
# Lucas-Kanade and semi-Lagrangian extrapolation, as its manual has it; cells that come from outside stay as they are.
PYSTEPS = """
import sys
import numpy as np
from pysteps import motion, nowcasts
shown = np.load(sys.argv[1])
flow, carry = motion.get_method("LK"), nowcasts.get_method("extrapolation")
told = []
for frames in shown.astype(float):
    (moved,) = carry(frames[-1], flow(frames, verbose=False), 1)
    told.append(np.where(np.isfinite(moved), moved, frames[-1]))
np.save(sys.argv[2], np.float32(told))
"""


def measure(*, quick: bool) -> dict[str, Figure]:
    """VRMSE one step ahead on held-out trajectories; without a network pySTEPS stays unknown and is held to nothing."""
    figures: dict[str, Figure] = {}
    trajectories, frames, size = QUICK_SHAPE if quick else SHAPE
    with tempfile.TemporaryDirectory(prefix="nvp-") as folder:
        python = None if quick else environment(Path(folder) / "pysteps", "pysteps", "opencv-python-headless")
        for name, domain in DOMAINS.items():
            data = domain.simulate(trajectories, frames, size, seed=1)
            cut = round(TRAIN * trajectories)
            train, test = data.select(trajectories=slice(0, cut)), data.select(trajectories=slice(cut, None))
            process = domain.process(size, 1, None)
            forecasters: list[Forecaster] = [*trivial_forecasters(train)]
            if not quick or not figures:
                forecasters.append(BlindSolver.taught(process, BLIND_FACTOR, cut, frames))
            rows = scoreboard(forecasters, test, time.process_time)
            print(f"\n{name}, {size}x{size}, {trajectories - cut} held-out trajectories of {frames} frames")
            solvers = [solved for factor in FACTORS if (solved := _solver(process, factor, cut, test)) is not None]
            print("\n".join(_lines(rows, solvers)))
            scored: list[Row | Solved] = [*rows, *solvers]
            figures |= {f"{name}/{one.name}": Figure(one.vrmse.value, "VRMSE") for one in scored}
            if python is not None:
                theirs = _told_by_pysteps(python, test, Path(folder))
                ours = next(row.vrmse.value for row in rows if row.name == "advection")
                print(f"  pySTEPS (LK)           {theirs:.4f}")
                figures[f"{name}/vs_pysteps"] = Figure(ours / theirs, "ratio", floor=LARGEST_RATIO)
    print()
    return figures


class Solved(NamedTuple):
    """The equation on cells so many times as wide, given the whole hidden state."""

    name: str
    vrmse: Interval
    h1: float
    cpu_s: float


def _solver(process: Process, factor: int, cut: int, test: SequenceSet) -> Solved | None:
    """On the trajectories of ``test``, which are those from number ``cut`` on; None where the cells cannot carry it."""
    try:
        told = coarse_forecasts(process, factor, cut + test.trajectories, test.frames)
    except InvalidInput:
        return None
    forecast, truth = told.forecast[cut:], told.truth[cut:]
    terms = np.array([vrmse_terms(*pair) for pair in zip(forecast, truth, strict=True)])
    error = bootstrap_by_trajectory(lambda drawn: float(np.sqrt(np.divide(*terms[drawn].sum(0)))), len(terms))
    return Solved(f"solver_{factor}x_wider", error, h1(forecast, truth), solver_cpu_s(process, factor))


def solver_cpu_s(process: Process, factor: int) -> float:
    """CPU-seconds of one frame of one trajectory on the wider cells, compiled."""
    coarse = process.coarser(factor)
    state = coarse.advance(coarse.receive(jax.tree.map(lambda one: one[None], process.first(0))))
    jax.tree.map(np.asarray, state)  # compiled, and done
    began = time.process_time()
    for _ in range(TIMED):
        state = coarse.advance(state)
    jax.tree.map(np.asarray, state)
    return (time.process_time() - began) / TIMED


def _lines(rows: tuple[Row, ...], solvers: list[Solved]) -> Iterator[str]:
    yield f"  {'':<22}  VRMSE   95% by trajectory     H1  J modelled  cover 90%"
    everyone: list[Row | Solved] = [*rows, *solvers]
    for one in everyone:
        error, joules = one.vrmse, one.cpu_s * WATTS_PER_CORE
        covers = f"{100 * one.coverage_90:9.0f}%" if isinstance(one, Row) else ""
        sure = f"{error.value:6.4f}   {error.low:6.4f} to {error.high:6.4f}"
        yield f"  {one.name:<22} {sure} {one.h1:6.4f} {joules:11.4f} {covers}"


def _told_by_pysteps(python: Path, test: SequenceSet, folder: Path) -> float:
    """Its VRMSE on every window of ``test``."""
    pairs: list[tuple[Floats, Floats]] = [
        (one.values[start : start + 2], one.values[start + 2]) for one in test for start in range(len(one) - 2)
    ]
    shown, came = (np.stack(part) for part in zip(*pairs, strict=True))
    np.save(folder / "shown.npy", shown)
    done = [str(python), "-c", PYSTEPS, str(folder / "shown.npy"), str(folder / "told.npy")]
    subprocess.run(done, check=True, timeout=PYSTEPS_S, stdout=subprocess.DEVNULL)
    return vrmse(np.load(folder / "told.npy"), came)
