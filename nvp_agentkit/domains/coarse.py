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
    """What came, and what the coarse solver had said of it one frame before: (N, T - 1, size, size) each.

    Of `coarse_rollouts` what came, and what the coarse solver said then of later frames.
    """

    truth: Floats
    forecast: Floats


def coarse_forecasts(process: Process, factor: int, trajectories: int, frames: int) -> Told:
    """Forecasts of every frame but the first, on cells ``factor`` times as wide.

    Raises:
        InvalidInput: the grid has no such cells, or they cannot carry the equation; names the limit.
    """
    ahead = coarse_rollouts(process, factor, trajectories, frames)
    return Told(ahead.truth[:, 1:], ahead.forecast[:, :-1, 0])


def coarse_rollouts(
    process: Process, factor: int, trajectories: int, frames: int, leads: tuple[int, ...] = (1,)
) -> Told:
    """All frames (N, T, size, size), and from the state at each the forecasts of frames so far ahead, (N, T, L, ...).

    Raises:
        InvalidInput: as `coarse_forecasts`.
    """
    check_factor(process, factor, frames, least=2)
    truth, forecasts = zip(*_ahead(process, factor, trajectories, frames, leads), strict=True)
    return Told(np.stack(truth, 1), np.stack(forecasts, 1))


def check_factor(process: Process, factor: int, frames: int, least: int) -> None:
    """Refuse what makes no coarser grid, or fewer than the ``least`` frames that are needed."""
    size = process.solver.size
    if frames < least or size % (2 * factor) or size // factor < 16:
        raise InvalidInput(
            f"{frames} frames, cells {factor} times as wide as those of size {size}: give at least {least} frames and "
            f"a size that {2 * factor} divides, {16 * factor} or more"
        )


def _ahead(
    process: Process, factor: int, trajectories: int, frames: int, leads: tuple[int, ...]
) -> Iterator[tuple[Floats, Floats]]:
    """Every delivered map (N, size, size) with the forecasts of later ones (N, L, size, size)."""
    coarse, fine = process.coarser(factor), process.solver
    for states, maps in play(process, range(trajectories), frames):
        if maps is None:
            continue
        seen, told = coarse.receive(states), {}
        before = fine.receive(seen)
        for step in range(1, max(leads) + 1):
            seen = coarse.advance(seen)
            if step in leads:
                after = fine.receive(seen)
                changed = jax.tree.map(lambda now, new, old: now + (new - old), states, after, before)
                told[step] = np.asarray(fine.observe(changed)[0])
        yield maps, np.stack([told[lead] for lead in leads], 1)
