"""Sequences of Kelvin-Helmholtz instability: two opposed shear layers roll up; equations in `navier_stokes`.

    u_x = U [tanh((y - L/4) / d) - tanh((y - 3L/4) / d) - 1] at the start, plus small random waves

Values (N, T, size, size) of E = |u|^2 / 2 in units of U^2, L = 2 pi wide; ``dt_s`` counts L / (2 pi U), ``dx_m``
counts L / (2 pi). Energy is only lost: conservation "dissipative". A layer of thickness d amplifies waves of k d < 1,
fastest at k d = 0.4446, where they grow at 0.1897 U / d. Where the grid cannot show the d asked for, the layer is
thicker.
Source: Michalke, JFM 19, 543 (1964) for the growth rates, which the tests use.
"""

from __future__ import annotations

import math
from functools import partial

import numpy as np

from nvp_agentkit.domains import spectral
from nvp_agentkit.domains.navier_stokes import Fluid, hyperviscosity, meta, solver
from nvp_agentkit.domains.runs import Process
from nvp_agentkit.domains.spectral import Spectra

THICKNESS = 0.15  # d, where the grid can show it
CELLS_A_THICKNESS = 1.5
NOISE = 0.02  # rms velocity of the random waves over U
NOISE_WAVES = (2.0, 8.0)  # a side
SETTLE = 4  # frames, of a layer as thin as asked for: it has begun to roll up


def default(size: int) -> Fluid:
    """Spaced for a persistence VRMSE near 0.35 at 64."""
    dt = 1.28 / max(64, size)
    return Fluid(hyperviscosity(size), dt, round(0.72 / dt))


def process(size: int, seed: int, parameters: Fluid | None = None) -> Process:
    """Trajectories of ``seed`` differ in their random waves; ``parameters`` default to `default`."""
    fluid = parameters or default(size)
    solved = solver(size, fluid)
    return Process(
        first=partial(_first, size, seed),
        spin_up=((solved, round(SETTLE * thickness(size) / THICKNESS)),),
        solver=solved,
        coarser=lambda factor: solver(size // factor, fluid.coarser(factor)),
        meta=meta("shear_flow", fluid, size, seed, start=f"two tanh layers of thickness {thickness(size):.3g}"),
    )


def thickness(size: int) -> float:
    """d: as thin as it should be, or as the grid can show."""
    return max(THICKNESS, CELLS_A_THICKNESS * 2 * math.pi / size)


def layers(size: int, d: float) -> Spectra:
    """Vorticity - d u_x / dy of the two layers, in Fourier space."""
    y = np.arange(size) * 2 * math.pi / size
    lower, upper = (1 / np.cosh((y - at) / d) ** 2 for at in (math.pi / 2, 3 * math.pi / 2))
    omega = np.broadcast_to(((upper - lower) / d)[:, None], (size, size))
    return np.fft.rfft2(omega).astype(np.complex64)


def _first(size: int, seed: int, trajectory: int) -> Spectra:
    ripple = spectral.random_vorticity(size, *NOISE_WAVES, [seed, trajectory])
    return (layers(size, thickness(size)) + NOISE * ripple).astype(np.complex64)
