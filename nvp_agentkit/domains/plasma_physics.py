"""Sequences of energy maps of plasma turbulence, from the equations in `hasegawa_wakatani`.

Values (N, T, size, size) of E = (n^2 + |grad phi|^2) / 2. Nothing here has an SI unit: ``dt_s`` counts L_n / c_s and
``dx_m`` counts rho_s, as the provenance says. The density gradient drives the flow, so the total is not conserved:
conservation "open".
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import asdict, replace
from typing import NamedTuple

import jax.numpy as jnp
import numpy as np

from nvp_agentkit.domains.hasegawa_wakatani import (
    REFERENCE_DAMPING,
    Parameters,
    Spectra,
    check_courant,
    make_grid,
    next_frame,
    noise,
    regrid,
)
from nvp_agentkit.errors import InvalidInput
from nvp_agentkit.fields.sequence import FieldMeta, Floats, SequenceSet

SPIN_UP_SIZE = 128  # a grid finer than this starts coarse
CELLS_AT_ONCE = 2**18  # bounds memory: 64 trajectories of 64x64 or 4 of 256x256 step together

Progress = Callable[[int, int], None]


def simulate(
    trajectories: int = 12,
    frames: int = 41,
    size: int = 64,
    seed: int = 0,
    progress: Progress | None = None,
    *,
    parameters: Parameters | None = None,
) -> SequenceSet:
    """Energy maps of ``trajectories`` independent runs, values (trajectories, frames, size, size).

    Args:
        trajectories: runs that differ in their initial noise.
        frames: delivered per run, `Parameters.frame_steps` steps apart.
        size: cells a side, even, >= 16.
        seed: equal seeds give equal bits on one platform.
        progress: called after every frame's worth of steps with (done, of); what it raises ends the run.
        parameters: default `Parameters.for_size(size)`.

    Raises:
        InvalidInput: counts or parameters out of range, or the run became unstable; names the limit.
    """
    if trajectories < 1 or frames < 1 or size < 16 or size % 2:
        raise InvalidInput(
            f"{trajectories} trajectories, {frames} frames, size {size}: give at least 1, 1 and an even size >= 16"
        )
    parameters = parameters or Parameters.for_size(size)
    plan = _plan(frames, size, parameters)
    for stage in plan:
        stage.parameters.check(stage.size)
    batch = min(trajectories, max(1, CELLS_AT_ONCE // size**2))
    starts = range(0, trajectories, batch)
    ticks = _ticks(progress, len(starts) * sum(stage.frames for stage in plan))
    runs = []
    for start in starts:  # the last batch is as large as the others: one compiled shape
        states = [noise(plan[0].size, parameters, seed, start + number) for number in range(batch)]
        runs.append(_run(np.stack(states), plan, ticks))
    return SequenceSet(np.concatenate(runs)[:trajectories], None, _meta(parameters, size, seed))


class Stage(NamedTuple):
    """A stretch of a run on one grid; only the last stage's frames are delivered."""

    size: int
    parameters: Parameters
    frames: int


def _plan(frames: int, size: int, parameters: Parameters) -> list[Stage]:
    period = parameters.dt * parameters.frame_steps
    if size <= SPIN_UP_SIZE:
        return [Stage(size, parameters, round(parameters.spin_up / period)), Stage(size, parameters, frames)]
    coarse_nu = REFERENCE_DAMPING / (parameters.k0 * SPIN_UP_SIZE / 3) ** 4
    # The reference task's spin-up; one frame's worth of steps is one unit of time.
    coarse = replace(parameters, nu=coarse_nu, dt=0.04, frame_steps=25)
    return [
        Stage(SPIN_UP_SIZE, coarse, round(parameters.spin_up - parameters.refine)),
        Stage(size, parameters, round(parameters.refine / period)),
        Stage(size, parameters, frames),
    ]


def _ticks(progress: Progress | None, total: int) -> Iterator[None]:
    for done in range(1, total + 1):
        if progress:
            progress(done, total)
        yield


def _run(states: Spectra, plan: list[Stage], ticks: Iterator[None]) -> Floats:
    """Energy maps (N, T, size, size) of the plan's last stage."""
    for stage in plan:
        grid, current = make_grid(stage.size, stage.parameters), jnp.asarray(regrid(states, stage.size))
        delivered = []
        for _ in range(stage.frames):
            current, maps, speed = next_frame(grid, stage.parameters, current)
            check_courant(float(speed), stage.size, stage.parameters)
            if stage is plan[-1]:
                delivered.append(np.asarray(maps))
            next(ticks)
        states = np.asarray(current)
    return np.stack(delivered, axis=1)


def _meta(parameters: Parameters, size: int, seed: int) -> FieldMeta:
    return FieldMeta(
        domain="plasma_physics",
        units="n0 Te (rho_s/L_n)^2",
        dt_s=parameters.dt * parameters.frame_steps,
        dx_m=2 * math.pi / parameters.k0 / size,
        boundary=("periodic", "periodic"),
        conservation="open",
        positive=True,
        provenance={
            "equation": "modified Hasegawa-Wakatani",
            "time_unit": "L_n/c_s",
            "length_unit": "rho_s",
            "seed": seed,
            "parameters": asdict(parameters),
        },
    )
