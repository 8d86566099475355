"""Sequences of heat in a plate of uneven conductivity, fed by flames that wander and flicker, cooled most at two sinks.

    d E / dt = div (kappa grad E) + s - c E

E is the heat per area over that at ambient temperature (J/m^2), kappa(x) the diffusivity (m^2/s), a smooth random map
of each trajectory, s(x, t) the flames' power (W/m^2), c(x) the rate of cooling (1/s). The edges let nothing through:
boundary "reflecting". State: `Plate`, leaves (N, ...) float32. Energy density: E itself, never negative. With flames
the total is "open"; with cooling alone only lost ("dissipative"); with neither it is kept to rounding ("closed").

Method: finite volumes on cells dx wide, the diffusivity of a face the harmonic mean of its two cells; Heun's rule,
which for dt (4 kappa_high / dx^2 + c) <= 1 (refused beyond) keeps E positive and makes no new extremes; float32.
Source: LeVeque, Finite Volume Methods for Hyperbolic Problems, ch. 4; a cosine under even kappa decays exactly, for
the tests.
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, replace
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from nvp_agentkit.domains import cells, spectral
from nvp_agentkit.domains.runs import Process, Solver
from nvp_agentkit.domains.stepping import heun, march
from nvp_agentkit.errors import InvalidInput
from nvp_agentkit.fields.sequence import Conservation, FieldMeta

WIDTH_M = 0.64
FLAMES, SINKS = 4, 2
FLAME_RADIUS_M, SINK_RADIUS_M = 0.04, 0.06
ORBIT_M = (0.05, 0.2)  # least and greatest radius of a flame's orbit
PERIOD_S = (100.0, 300.0)  # of an orbit; a flame flickers twice as fast
SETTLE = 10  # frames


@dataclass(frozen=True)
class Furnace:
    """Physics and numbers.

    Attributes:
        dt: time step, s.
        frame_steps: steps between delivered frames.
        kappa_low: least diffusivity, m^2/s; 1e-5 is steel.
        kappa_high: greatest; 1e-4 is copper.
        power: at a flame's centre, W/m^2.
        cooling: everywhere, 1/s.
        sink: more of it at the centre of a sink, 1/s.
    """

    dt: float
    frame_steps: int
    kappa_low: float = 1e-5
    kappa_high: float = 1e-4
    power: float = 5000.0
    cooling: float = 0.005
    sink: float = 0.05

    @staticmethod
    def for_size(size: int) -> Furnace:
        """Frames 24 s apart, for a persistence VRMSE near 0.35."""
        return Furnace(24.0, 1).on(size)

    def on(self, size: int) -> Furnace:
        """The same with as few steps a frame as ``size`` cells a side allow."""
        frame_s = self.dt * self.frame_steps
        steps = math.ceil(frame_s / self.longest_dt(size))
        return replace(self, dt=frame_s / steps, frame_steps=steps)

    def longest_dt(self, size: int) -> float:
        """What Heun's rule carries on ``size`` cells a side."""
        rate = 4 * self.kappa_high * (size / WIDTH_M) ** 2 + self.cooling + SINKS * self.sink
        return 1 / rate if rate else math.inf

    def check(self, size: int) -> None:
        """Refuse what Heun's rule cannot carry, naming the limit."""
        rates = (self.kappa_low, self.kappa_high - self.kappa_low, self.power, self.cooling, self.sink)
        if min(rates) < 0 or self.dt <= 0 or self.frame_steps < 1:
            raise InvalidInput(
                f"{self}: give 0 <= kappa_low <= kappa_high, no negative rate, dt and frame_steps above 0"
            )
        if self.dt > self.longest_dt(size):
            raise InvalidInput(
                f"dt={self.dt:g} is unstable for kappa_high={self.kappa_high:g} at size {size}: "
                f"limit {self.longest_dt(size):.3g} = 1 / (4 kappa_high / dx^2 + cooling); shorten dt"
            )

    @property
    def conservation(self) -> Conservation:
        """What becomes of the total."""
        if self.power:
            return "open"
        return "dissipative" if self.cooling or self.sink else "closed"


class Plate(NamedTuple):
    """One trajectory.

    Attributes:
        heat: E, (size, size).
        kappa: (size, size).
        cooling: c, (size, size).
        orbits: (FLAMES, 6): centre y and x, radius (m), rate (1/s), phase, phase of the flicker.
        time: s.
    """

    heat: jax.Array
    kappa: jax.Array
    cooling: jax.Array
    orbits: jax.Array
    time: jax.Array


def process(size: int, seed: int, parameters: Furnace | None = None) -> Process:
    """Trajectories of ``seed`` differ in everything random; ``parameters`` default to `Furnace.for_size`."""
    furnace = parameters or Furnace.for_size(size)
    solved = solver(size, furnace)
    return Process(
        first=partial(_first, size, seed, furnace),
        spin_up=((solved, SETTLE),),
        solver=solved,
        coarser=lambda factor: solver(size // factor, furnace.on(size // factor)),
        meta=_meta(furnace, size, seed),
    )


def solver(size: int, furnace: Furnace) -> Solver:
    """Frames ``frame_steps`` steps apart.

    Raises:
        InvalidInput: see `Furnace.check`.
    """
    furnace.check(size)
    return Solver(
        size,
        advance=partial(advance, furnace),
        observe=observe,
        check=cells.check_finite,
        receive=partial(cells.regrid, size=size),
        shown=lambda plates, maps: plates._replace(heat=cells.regrid(maps, size)),
    )


def flux_divergence(heat: jax.Array, kappa: jax.Array, dx: float) -> jax.Array:
    """div (kappa grad E) on cells ``dx`` wide whose outer faces are shut, (size, size); its sum is zero."""
    total = jnp.zeros_like(heat)
    for axis in (0, 1):
        lower, upper = (jax.lax.slice_in_dim(kappa, start, start - 1 or None, axis=axis) for start in (0, 1))
        face = 2 * lower * upper / jnp.maximum(lower + upper, 1e-30)
        shut = [(1, 1) if axis == side else (0, 0) for side in (0, 1)]
        total += jnp.diff(jnp.pad(face * jnp.diff(heat, axis=axis), shut), axis=axis)
    return total / dx**2


def flames(orbits: jax.Array, time: jax.Array, size: int) -> jax.Array:
    """Their power over that at a centre, (size, size): each circles, and glows and fades twice a turn."""
    centre_y, centre_x, radius, rate, phase, flicker = orbits.T
    turn = rate * time
    places = (jnp.arange(size) + 0.5) * (WIDTH_M / size)
    far_y, far_x = (
        jnp.exp(-((places - at[:, None]) ** 2) / (2 * FLAME_RADIUS_M**2))
        for at in (centre_y + radius * jnp.sin(turn + phase), centre_x + radius * jnp.cos(turn + phase))
    )
    glow = (1 + jnp.sin(2 * turn + flicker)) / 2
    return jnp.einsum("s,sy,sx->yx", glow, far_y, far_x)


def tendency(furnace: Furnace, plate: Plate, heat: jax.Array, later: float) -> jax.Array:
    """dE/dt of a plate whose heat is ``heat``, ``later`` seconds after its time."""
    size = heat.shape[-1]
    power = furnace.power * flames(plate.orbits, plate.time + later, size) if furnace.power else 0.0
    return flux_divergence(heat, plate.kappa, WIDTH_M / size) + power - plate.cooling * heat


@partial(jax.jit, static_argnames="furnace")
def advance(furnace: Furnace, states: Plate) -> Plate:
    """``frame_steps`` steps of all plates."""

    def step(plate: Plate) -> Plate:
        heat = heun(partial(tendency, furnace, plate), plate.heat, furnace.dt)
        return plate._replace(heat=heat, time=plate.time + furnace.dt)

    return march(step, states, furnace.frame_steps)


@jax.jit
def observe(states: Plate) -> tuple[jax.Array, jax.Array]:
    """E, (N, size, size), and the greatest."""
    return states.heat, jnp.max(states.heat)


def _first(size: int, seed: int, furnace: Furnace, trajectory: int) -> Plate:
    rng = np.random.default_rng([seed, trajectory])
    rough, warm = (
        np.fft.irfft2(spectral.random_band(size, 1, high, [seed, trajectory, which]), s=(size, size))
        for which, high in ((1, 5), (2, 4))
    )
    blend = 1 / (1 + np.exp(-2 * rough))
    low, high = np.log(np.maximum([furnace.kappa_low, furnace.kappa_high], 1e-12))
    y, x = (np.mgrid[:size, :size] + 0.5) * (WIDTH_M / size)
    cooling = np.full((size, size), furnace.cooling)
    for at_y, at_x in rng.uniform(0, WIDTH_M, (SINKS, 2)):
        cooling += furnace.sink * np.exp(-((y - at_y) ** 2 + (x - at_x) ** 2) / (2 * SINK_RADIUS_M**2))
    turns = rng.choice([-1, 1], FLAMES) * 2 * np.pi / rng.uniform(*PERIOD_S, FLAMES)
    places, radius, phases = (
        rng.uniform(0.2, 0.8, (2, FLAMES)),
        rng.uniform(*ORBIT_M, FLAMES),
        rng.uniform(0, 6.3, (2, FLAMES)),
    )
    orbits = np.stack([*(WIDTH_M * places), radius, turns, *phases], axis=1)
    parts = (1e4 * np.exp(0.5 * warm), np.exp(low + (high - low) * blend), cooling, orbits, 0.0)
    return Plate(*(jnp.asarray(part, jnp.float32) for part in parts))


def _meta(furnace: Furnace, size: int, seed: int) -> FieldMeta:
    return FieldMeta(
        domain="heat_diffusion",
        units="J/m^2",
        dt_s=furnace.dt * furnace.frame_steps,
        dx_m=WIDTH_M / size,
        boundary=("reflecting", "reflecting"),
        conservation=furnace.conservation,
        positive=True,
        provenance={"equation": "heat equation", "seed": seed, "parameters": asdict(furnace)},
    )
