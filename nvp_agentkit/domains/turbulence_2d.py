"""Sequences of two-dimensional turbulence, decaying or forced, from the equations in `navier_stokes`.

Values (N, T, size, size) of E = |u|^2 / 2 in units of U^2, U the rms velocity at the start; ``dt_s`` counts L / (2 pi
U), ``dx_m`` counts L / (2 pi), L the width of the periodic box. The flow starts as random waves at 3 to 7 a side.
Decaying, the default: energy is only lost, conservation "dissipative". Forced (`forced`): a stirrer, the same for
every seed and trajectory, against friction; conservation "open".
Source: McWilliams, JFM 146, 21 (1984) for decaying; Maltrud & Vallis, JFM 228, 321 (1991) for forced.
"""

from __future__ import annotations

from dataclasses import replace
from functools import partial

from nvp_agentkit.domains import spectral
from nvp_agentkit.domains.navier_stokes import Fluid, hyperviscosity, meta, solver
from nvp_agentkit.domains.runs import Process
from nvp_agentkit.domains.spectral import Spectra

FIRST_WAVES = (3.0, 7.0)  # a side
SETTLE, FORCED_SETTLE = 6, 60  # frames


def decaying(size: int) -> Fluid:
    """Spaced for a persistence VRMSE near 0.35 at 64."""
    dt = 0.96 / max(64, size)
    return Fluid(hyperviscosity(size), dt, frame_steps=round(0.21 / dt))


def forced(size: int) -> Fluid:
    """Stirred until friction balances it at an rms velocity near 1; spaced for the same."""
    still = decaying(size)
    return replace(still, mu=0.1, force=2.0, frame_steps=round(0.24 / still.dt))


def process(size: int, seed: int, parameters: Fluid | None = None) -> Process:
    """Trajectories of ``seed`` differ in the phases of their waves; ``parameters`` default to `decaying`."""
    fluid = parameters or decaying(size)
    solved = solver(size, fluid)
    return Process(
        first=partial(_first, size, seed),
        spin_up=((solved, FORCED_SETTLE if fluid.force else SETTLE),),
        solver=solved,
        coarser=lambda factor: solver(size // factor, fluid.coarser(factor)),
        meta=meta("turbulence_2d", fluid, size, seed),
    )


def _first(size: int, seed: int, trajectory: int) -> Spectra:
    return spectral.random_vorticity(size, *FIRST_WAVES, [seed, trajectory])
