"""Sequences of the rotating shallow-water equations: a thin layer of fluid with waves and eddies.

    d u / dt = -u u_x - v u_y + f v - g h_x - nu4 lap^2 u
    d v / dt = -u v_x - v v_y - f u - g h_y - nu4 lap^2 v
    d h / dt = -div ((H + h) (u, v))        - nu4 lap^2 h

(u, v) is the velocity, h the height over the mean depth H, g gravity, f the Coriolis parameter, nu4 a hyperviscosity.
The periodic box is 2 pi wide. State: (u, v, h) in Fourier space, (N, 3, size, size // 2 + 1) complex64. Energy
density: E = ((H + h) (u^2 + v^2) + g h^2) / 2, kinetic and available potential. Mass is kept to rounding, energy is
only lost: conservation "dissipative". With g = H = 1, E counts H c^2, ``dt_s`` L / (2 pi c), ``dx_m`` L / (2 pi): c =
sqrt(g H) is the speed of gravity waves.

Start: eddies in geostrophic balance (f u = -g h_y, f v = g h_x). Method: integrating factor, RK4, 2/3 dealiasing,
float32. Failure modes: waves that outrun dt (refused: Courant number of |u| + |v| + sqrt(2 g (H + h))), a layer that
runs dry (refused: that number is NaN), a grid scale left undamped (refused).
Source: Vallis, Atmospheric and Oceanic Fluid Dynamics, ch. 3; omega^2 = f^2 + g H k^2 of small waves for the tests.
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, replace
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np

from nvp_agentkit.domains import spectral
from nvp_agentkit.domains.navier_stokes import hyperviscosity
from nvp_agentkit.domains.runs import Process, Solver
from nvp_agentkit.domains.spectral import Modes, Spectra
from nvp_agentkit.domains.stepping import longer_steps, march, rk4
from nvp_agentkit.errors import InvalidInput
from nvp_agentkit.fields.sequence import FieldMeta

WAVES = (2.0, 6.0)  # a side
HEIGHT = 0.18  # rms of h at the start, over H
SETTLE = 6  # frames


@dataclass(frozen=True)
class Layer:
    """Physics and numbers.

    Attributes:
        nu4: hyperviscosity.
        dt: time step.
        frame_steps: steps between delivered frames.
        coriolis: f, not 0.
        gravity: g.
        depth: H.
    """

    nu4: float
    dt: float
    frame_steps: int
    coriolis: float = 2.0
    gravity: float = 1.0
    depth: float = 1.0

    @staticmethod
    def for_size(size: int) -> Layer:
        """Spaced for a persistence VRMSE near 0.35 at 64."""
        dt = 2.56 / max(64, size)
        return Layer(hyperviscosity(size), dt, round(0.52 / dt))

    def coarser(self, factor: int) -> Layer:
        """The same layer on cells ``factor`` times as wide."""
        dt, steps = longer_steps(self.dt, self.frame_steps, factor)
        return replace(self, nu4=self.nu4 * factor**4, dt=dt, frame_steps=steps)

    def check(self, size: int) -> None:
        """Refuse what the grid cannot carry, naming the limit."""
        if min(self.gravity, self.depth, self.dt, abs(self.coriolis)) <= 0 or self.frame_steps < 1:
            raise InvalidInput(f"{self}: gravity, depth, dt and frame_steps must be above 0, coriolis not 0")
        spectral.check_damping("nu4", self.nu4, 4, size)


def process(size: int, seed: int, parameters: Layer | None = None) -> Process:
    """Trajectories of ``seed`` differ in their first eddies; ``parameters`` default to `Layer.for_size`."""
    layer = parameters or Layer.for_size(size)
    solved = solver(size, layer)
    return Process(
        first=partial(_first, size, seed, layer),
        spin_up=((solved, SETTLE),),
        solver=solved,
        coarser=lambda factor: solver(size // factor, layer.coarser(factor)),
        meta=_meta(layer, size, seed),
    )


def solver(size: int, layer: Layer) -> Solver:
    """Frames ``frame_steps`` steps apart.

    Raises:
        InvalidInput: see `Layer.check`.
    """
    layer.check(size)
    at = spectral.modes(size)
    kx, ky = spectral.wavenumbers(size)
    return Solver(
        size,
        advance=partial(advance, layer, at, spectral.half_decay(layer.nu4 * (kx**2 + ky**2) ** 2, layer.dt)),
        observe=partial(observe, layer, at),
        check=partial(spectral.check_courant, size=size, k0=1.0, dt=layer.dt),
        receive=partial(spectral.regrid, size=size),
    )


def tendency(at: Modes, layer: Layer, state: jax.Array) -> jax.Array:
    """Right-hand side without the damping, for one trajectory: (3, size, size // 2 + 1) -> same."""
    u, v, h = spectral.to_grid(state)
    by_x, by_y = spectral.slopes(at, state)
    along = -u * by_x[0] - v * by_y[0] + layer.coriolis * v - layer.gravity * by_x[2]
    across = -u * by_x[1] - v * by_y[1] - layer.coriolis * u - layer.gravity * by_y[2]
    deep = layer.depth + h
    u_t, v_t, flux_x, flux_y = jnp.fft.rfft2(jnp.stack([along, across, deep * u, deep * v]))
    return at.keep * jnp.stack([u_t, v_t, -at.ikx * flux_x - at.iky * flux_y])


@partial(jax.jit, static_argnames="layer")
def advance(layer: Layer, at: Modes, decay: jax.Array, states: jax.Array) -> jax.Array:
    """``frame_steps`` steps of all trajectories, (N, 3, size, size // 2 + 1) -> same."""
    slope = partial(tendency, at, layer)
    return march(lambda state: rk4(slope, state, layer.dt, decay), states, layer.frame_steps)


@partial(jax.jit, static_argnames="layer")
def observe(layer: Layer, at: Modes, states: jax.Array) -> tuple[jax.Array, jax.Array]:
    """E, (N, size, size), and the largest |u| + |v| + sqrt(2 g (H + h)); NaN where the layer ran dry."""
    u, v, h = jnp.moveaxis(spectral.to_grid(states), 1, 0)
    deep = layer.depth + h
    maps = (deep * (u**2 + v**2) + layer.gravity * h**2) / 2
    return maps, jnp.max(jnp.abs(u) + jnp.abs(v) + jnp.sqrt(2 * layer.gravity * deep))


def _first(size: int, seed: int, layer: Layer, trajectory: int) -> Spectra:
    kx, ky = spectral.wavenumbers(size)
    h = HEIGHT * layer.depth * spectral.random_band(size, *WAVES, [seed, trajectory])
    turn = layer.gravity / layer.coriolis
    return np.stack([-turn * 1j * ky * h, turn * 1j * kx * h, h]).astype(np.complex64)


def _meta(layer: Layer, size: int, seed: int) -> FieldMeta:
    return FieldMeta(
        domain="shallow_water",
        units="H c^2",
        dt_s=layer.dt * layer.frame_steps,
        dx_m=2 * math.pi / size,
        boundary=("periodic", "periodic"),
        conservation="dissipative",
        positive=True,
        provenance={
            "equation": "rotating shallow water",
            "time_unit": "L/(2 pi c)",
            "length_unit": "L/(2 pi)",
            "seed": seed,
            "parameters": asdict(layer),
        },
    )
