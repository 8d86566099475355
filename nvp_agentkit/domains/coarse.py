"""The honest opponent of a learned model: the same equation on a coarser grid, which is faster too.

It is given more than any forecaster sees: the full hidden state of the fine run at every frame. What its cells cannot
show stays as it was, which in five domains of seven was better than leaving it out.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import jax
import numpy as np

from nvp_agentkit.domains.runs import Process, play
from nvp_agentkit.errors import InvalidInput
from nvp_agentkit.fields.sequence import Floats


class Told(NamedTuple):
    """What came, and what the coarse solver had said of it one frame before: (N, T - 1, size, size) each."""

    truth: Floats
    forecast: Floats


def coarse_forecasts(process: Process, factor: int, trajectories: int, frames: int) -> Told:
    """Forecasts of every frame but the first, on cells ``factor`` times as wide.

    Raises:
        InvalidInput: the grid has no such cells, or they cannot carry the equation; names the limit.
    """
    check_factor(process, factor, frames, least=2)
    truth, forecasts = zip(*_pairs(process, factor, trajectories, frames), strict=True)
    return Told(np.stack(truth[1:], 1), np.stack(forecasts[:-1], 1))


def check_factor(process: Process, factor: int, frames: int, least: int) -> None:
    """Refuse what makes no coarser grid, or fewer than the ``least`` frames that are needed."""
    size = process.solver.size
    if frames < least or size % (2 * factor) or size // factor < 16:
        raise InvalidInput(
            f"{frames} frames, cells {factor} times as wide as those of size {size}: give at least {least} frames and "
            f"a size that {2 * factor} divides, {16 * factor} or more"
        )


def _pairs(process: Process, factor: int, trajectories: int, frames: int) -> Iterator[tuple[Floats, Floats]]:
    """Every delivered map with the forecast of the one after it."""
    coarse, fine = process.coarser(factor), process.solver
    for states, maps in play(process, range(trajectories), frames):
        if maps is not None:
            seen = coarse.receive(states)
            before, after = fine.receive(seen), fine.receive(coarse.advance(seen))
            told, _ = fine.observe(jax.tree.map(lambda now, new, old: now + (new - old), states, after, before))
            yield maps, np.asarray(told)
