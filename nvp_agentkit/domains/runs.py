"""What every simulation has in common: trajectories in batches, spin-up, progress, frames gathered."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from nvp_agentkit.domains.stepping import State
from nvp_agentkit.errors import InvalidInput
from nvp_agentkit.fields.sequence import FieldMeta, Floats, SequenceSet

CELLS_AT_ONCE = 2**18  # bounds memory: 64 trajectories of 64x64 or 4 of 256x256 step together

Progress = Callable[[int, int], None]


class Solver(NamedTuple):
    """An equation with its numbers on one grid. States are arrays, or a NamedTuple of them, with a leading axis N.

    Attributes:
        size: cells a side.
        advance: states -> states one frame later.
        observe: states -> maps of E (N, size, size), and the one number that `check` judges.
        check: refuses what the time step cannot carry, NaN included.
        receive: states of another grid -> the same on this one.
        shown: (states, maps of E on any grid) -> the states with what E tells outright put in; where it does so of
            nothing, as they were.
    """

    size: int
    advance: Callable[[State], State]
    observe: Callable[[State], tuple[jax.Array, jax.Array]]
    check: Callable[[float], None]
    receive: Callable[[State], State]
    shown: Callable[[State, jax.Array], State] = lambda states, maps: states


class Process(NamedTuple):
    """Where trajectories start, what solves them, and what their maps mean.

    Attributes:
        first: state of a trajectory by its number, on the grid of the first solver.
        spin_up: solvers and how many frames of each pass until the start is forgotten; nothing of it is delivered.
        solver: of the delivered frames.
        coarser: how many times wider the cells -> a solver of the same frames with as few steps as those cells allow.
    """

    first: Callable[[int], State]
    spin_up: tuple[tuple[Solver, int], ...]
    solver: Solver
    coarser: Callable[[int], Solver]
    meta: FieldMeta


def play(process: Process, numbers: range, frames: int) -> Iterator[tuple[State, Floats | None]]:
    """States frame by frame, with their maps once the spin-up is over.

    Raises:
        InvalidInput: the flow outran the time step.
    """
    states = jax.tree.map(lambda *each: np.stack(each), *map(process.first, numbers))
    plan = [(solver, count, False) for solver, count in process.spin_up] + [(process.solver, frames, True)]
    for solver, count, delivers in plan:
        states = solver.receive(states)
        for _ in range(count):
            states = solver.advance(states)
            maps, worst = solver.observe(states)
            solver.check(float(_unless_broken(worst, maps)))
            yield states, np.asarray(maps) if delivers else None


@jax.jit
def _unless_broken(worst: jax.Array, maps: jax.Array) -> jax.Array:
    """NaN if any value is: XLA's max over enough NaN was seen to be -inf on a CPU, which no limit refuses."""
    return jnp.where(jnp.isfinite(maps).all(), worst, jnp.nan)


def run(process: Process, trajectories: int, frames: int, progress: Progress | None = None) -> SequenceSet:
    """Maps (trajectories, frames, size, size) of ``process``; what ``progress`` raises ends the run.

    Raises:
        InvalidInput: the flow outran the time step; nothing is delivered then.
    """
    batch = min(trajectories, max(1, CELLS_AT_ONCE // process.solver.size**2))
    starts = range(0, trajectories, batch)
    spin_up = sum(count for _, count in process.spin_up)
    total, done, runs = len(starts) * (spin_up + frames), 0, []
    for start in starts:  # the last batch is as large as the others: one compiled shape
        delivered = []
        for _, maps in play(process, range(start, start + batch), frames):
            if maps is not None:
                delivered.append(maps)
            done += 1
            if progress:
                progress(done, total)
        runs.append(np.stack(delivered, axis=1))
    return SequenceSet(np.concatenate(runs)[:trajectories], None, process.meta)


def check_counts(trajectories: int, frames: int, size: int) -> None:
    """Refuse what makes no sequence."""
    if trajectories < 1 or frames < 1 or size < 16 or size % 2:
        raise InvalidInput(
            f"{trajectories} trajectories, {frames} frames, size {size}: give at least 1, 1 and an even size >= 16"
        )
