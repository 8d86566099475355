"""Sequences of incompressible two-dimensional magnetohydrodynamics: a conducting fluid and the field frozen into it.

    d omega / dt + [psi, omega] = [a, j] - nu4 lap^2 omega,    omega = lap psi,    j = lap a
    d a     / dt + [psi, a    ] =        - eta4 lap^2 a,       [f, g] = f_x g_y - f_y g_x

psi is the stream function, u = (-psi_y, psi_x) the velocity; a the flux function, b = (-a_y, a_x) the magnetic field
as an Alfven velocity; nu4 and eta4 hyperviscosity and hyperresistivity. The periodic box is 2 pi wide. State: (omega,
a) in Fourier space, (N, 2, size, size // 2 + 1) complex64. Energy density: E = (|u|^2 + |b|^2) / 2 in units of U^2, U
the rms velocity at the start; ``dt_s`` counts L / (2 pi U), ``dx_m`` counts L / (2 pi). Energy is only lost:
"dissipative".

Starts: "orszag_tang", the vortex of that name with a random part that tells trajectories apart, or "random" fields.
Method: integrating factor, RK4, 2/3 dealiasing, float32. Good values: nu4 k_cut^4 = eta4 k_cut^4 = 8. Failure modes:
waves that outrun dt (refused: Courant number of |u| + |b|), current sheets thinner than the grid (refused: damping).
Source: Orszag & Tang, JFM 90, 129 (1979); Biskamp, Nonlinear Magnetohydrodynamics, ch. 7.
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

RANDOM_WAVES = (2.0, 5.0)  # a side
VORTEX_NOISE = 0.3  # rms of the random part of an Orszag-Tang start, over that of the vortex
SETTLE = 4  # frames


@dataclass(frozen=True)
class Plasma:
    """Physics and numbers.

    Attributes:
        nu4: hyperviscosity.
        eta4: hyperresistivity.
        dt: time step.
        frame_steps: steps between delivered frames.
        start: "orszag_tang" or "random".
    """

    nu4: float
    eta4: float
    dt: float
    frame_steps: int
    start: str = "orszag_tang"

    @staticmethod
    def for_size(size: int, start: str = "orszag_tang") -> Plasma:
        """Spaced for a persistence VRMSE near 0.35 at 64."""
        dt, damping = 0.64 / max(64, size), hyperviscosity(size, 8.0)
        return Plasma(damping, damping, dt, round((0.12 if start == "random" else 0.2) / dt), start)

    def coarser(self, factor: int) -> Plasma:
        """The same plasma on cells ``factor`` times as wide."""
        dt, steps = longer_steps(self.dt, self.frame_steps, factor)
        return replace(self, nu4=self.nu4 * factor**4, eta4=self.eta4 * factor**4, dt=dt, frame_steps=steps)

    def check(self, size: int) -> None:
        """Refuse what the grid cannot carry, naming the limit."""
        if self.dt <= 0 or self.frame_steps < 1:
            raise InvalidInput(f"dt={self.dt}, frame_steps={self.frame_steps}: both must be above 0")
        if self.start not in STARTS:
            raise InvalidInput(f"start {self.start!r}: give one of {', '.join(STARTS)}")
        spectral.check_damping("nu4", self.nu4, 4, size)
        spectral.check_damping("eta4", self.eta4, 4, size)


def process(size: int, seed: int, parameters: Plasma | None = None) -> Process:
    """Trajectories of ``seed`` differ in their random part; ``parameters`` default to `Plasma.for_size`."""
    plasma = parameters or Plasma.for_size(size)
    solved = solver(size, plasma)
    return Process(
        first=lambda trajectory: STARTS[plasma.start](size, [seed, trajectory]),
        spin_up=((solved, SETTLE),),
        solver=solved,
        coarser=lambda factor: solver(size // factor, plasma.coarser(factor)),
        meta=_meta(plasma, size, seed),
    )


def solver(size: int, plasma: Plasma) -> Solver:
    """Frames ``frame_steps`` steps apart.

    Raises:
        InvalidInput: see `Plasma.check`.
    """
    plasma.check(size)
    at = spectral.modes(size)
    kx, ky = spectral.wavenumbers(size)
    decay = spectral.half_decay(np.multiply.outer([plasma.nu4, plasma.eta4], (kx**2 + ky**2) ** 2), plasma.dt)
    return Solver(
        size,
        advance=partial(advance, plasma, at, decay),
        observe=partial(observe, at),
        check=partial(spectral.check_courant, size=size, k0=1.0, dt=plasma.dt),
        receive=partial(spectral.regrid, size=size),
    )


def tendency(at: Modes, state: jax.Array) -> jax.Array:
    """Right-hand side without the damping, for one trajectory: (2, size, size // 2 + 1) -> same."""
    omega, a = state
    by_x, by_y = spectral.slopes(at, jnp.stack([at.inverse_laplacian * omega, omega, a, at.minus_k2 * a]))

    def bracket(f: int, g: int) -> jax.Array:
        return by_x[f] * by_y[g] - by_y[f] * by_x[g]

    psi, omega_, a_, j = range(4)
    return at.keep * jnp.fft.rfft2(jnp.stack([bracket(a_, j) - bracket(psi, omega_), -bracket(psi, a_)]))


@partial(jax.jit, static_argnames="plasma")
def advance(plasma: Plasma, at: Modes, decay: jax.Array, states: jax.Array) -> jax.Array:
    """``frame_steps`` steps of all trajectories, (N, 2, size, size // 2 + 1) -> same."""
    slope = partial(tendency, at)
    return march(lambda state: rk4(slope, state, plasma.dt, decay), states, plasma.frame_steps)


@jax.jit
def observe(at: Modes, states: jax.Array) -> tuple[jax.Array, jax.Array]:
    """E = (|u|^2 + |b|^2) / 2, (N, size, size), and the largest |u| + |b|, each summed over components."""
    potentials = jnp.stack([at.inverse_laplacian * states[:, 0], states[:, 1]])
    by_x, by_y = spectral.slopes(at, potentials)
    return ((by_x**2 + by_y**2) / 2).sum(0), jnp.max((jnp.abs(by_x) + jnp.abs(by_y)).sum(0))


def _random(size: int, seed: list[int]) -> Spectra:
    """Velocity and field of rms 1 each, independent of each other."""
    omega, j = (spectral.random_vorticity(size, *RANDOM_WAVES, [*seed, which]) for which in (0, 1))
    return np.stack([omega, np.asarray(spectral.modes(size).inverse_laplacian) * j])


def _orszag_tang(size: int, seed: list[int]) -> Spectra:
    """psi = cos x + cos y, a = (cos 2x + 2 cos y) / 2, and the random part."""
    y, x = np.mgrid[:size, :size] * (2 * math.pi / size)
    vortex = np.fft.rfft2(np.stack([-np.cos(x) - np.cos(y), np.cos(2 * x) / 2 + np.cos(y)]))
    return (vortex + VORTEX_NOISE * _random(size, seed)).astype(np.complex64)


STARTS = {"orszag_tang": _orszag_tang, "random": _random}


def _meta(plasma: Plasma, size: int, seed: int) -> FieldMeta:
    return FieldMeta(
        domain="magnetohydrodynamics",
        units="U^2",
        dt_s=plasma.dt * plasma.frame_steps,
        dx_m=2 * math.pi / size,
        boundary=("periodic", "periodic"),
        conservation="dissipative",
        positive=True,
        provenance={
            "equation": "incompressible 2-D MHD",
            "time_unit": "L/(2 pi U)",
            "length_unit": "L/(2 pi)",
            "seed": seed,
            "parameters": asdict(plasma),
        },
    )
