"""The two-dimensional Navier-Stokes equations of an incompressible fluid, in vorticity form.

    d omega / dt + [psi, omega] = nu lap omega - nu4 lap^2 omega - mu omega + f,    lap psi = omega,
    [a, b] = a_x b_y - a_y b_x,    u = (-psi_y, psi_x)

omega is the vorticity, psi the stream function, u the velocity; nu viscosity, nu4 hyperviscosity, mu friction with
the ground, f the curl of a steady stirrer at 4 to 6 waves a side, of one shape for all. The periodic box is 2 pi
wide. State: omega in Fourier space, shape (N, size, size // 2 + 1) complex64. Energy density: E = |u|^2 / 2.

Method: integrating factor for the linear part, RK4 for the rest, 2/3 dealiasing, float32. Good values: at rms
velocity 1, nu4 k_cut^4 = 2 (`hyperviscosity`). Failure modes: a flow that outruns dt, a grid scale left undamped:
both refused.
Source: Lesieur, Turbulence in Fluids, ch. 8; a band of one |k|, whose [psi, omega] is 0, for the exact decay in the
tests.
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, replace
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp

from nvp_agentkit.domains import spectral
from nvp_agentkit.domains.runs import Solver
from nvp_agentkit.domains.spectral import Modes
from nvp_agentkit.domains.stepping import longer_steps, march, rk4
from nvp_agentkit.errors import InvalidInput
from nvp_agentkit.fields.sequence import Conservation, FieldMeta

STIRRED_WAVES = (4.0, 6.0)  # a side
STIRRER = [2**31]  # seed of the stirrer's shape, none of a trajectory's


@dataclass(frozen=True)
class Fluid:
    """Physics and numbers.

    Attributes:
        nu4: hyperviscosity.
        dt: time step.
        frame_steps: steps between delivered frames.
        nu: viscosity.
        mu: friction.
        force: rms of f, the stirrer; 0 leaves the flow to decay.
    """

    nu4: float
    dt: float
    frame_steps: int
    nu: float = 0.0
    mu: float = 0.0
    force: float = 0.0

    def check(self, size: int) -> None:
        """Refuse what the grid cannot carry, naming the limit."""
        if min(self.nu, self.nu4, self.mu, self.force) < 0 or self.dt <= 0 or self.frame_steps < 1:
            raise InvalidInput(f"{self}: no rate may be negative, and dt and frame_steps must be above 0")
        if not self.nu:
            spectral.check_damping("nu4", self.nu4, 4, size)
        elif not self.nu4:
            spectral.check_damping("nu", self.nu, 2, size)

    def coarser(self, factor: int) -> Fluid:
        """The same fluid on cells ``factor`` times as wide."""
        dt, steps = longer_steps(self.dt, self.frame_steps, factor)
        return replace(self, nu4=self.nu4 * factor**4, dt=dt, frame_steps=steps)

    @property
    def conservation(self) -> Conservation:
        """What becomes of the total energy."""
        if self.force:
            return "open"
        return "dissipative"


def hyperviscosity(size: int, rate: float = 2.0) -> float:
    """The nu4 that damps the dealiasing cut-off at ``rate`` per unit of time."""
    return rate / (size / 3) ** 4


def solver(size: int, fluid: Fluid) -> Solver:
    """Frames ``frame_steps`` steps apart.

    Raises:
        InvalidInput: see `Fluid.check`.
    """
    fluid.check(size)
    at = spectral.modes(size)
    kx, ky = spectral.wavenumbers(size)
    k2 = kx**2 + ky**2
    decay = spectral.half_decay(fluid.nu * k2 + fluid.nu4 * k2**2 + fluid.mu, fluid.dt)
    force = fluid.force * spectral.random_band(size, *STIRRED_WAVES, STIRRER)
    return Solver(
        size,
        advance=partial(advance, fluid, at, decay, jnp.asarray(force)),
        observe=partial(observe, at),
        check=partial(spectral.check_courant, size=size, k0=1.0, dt=fluid.dt),
        receive=partial(spectral.regrid, size=size),
    )


def tendency(at: Modes, force: jax.Array, omega: jax.Array) -> jax.Array:
    """Right-hand side without the damping, for one trajectory: (size, size // 2 + 1) -> same."""
    by_x, by_y = spectral.slopes(at, jnp.stack([at.inverse_laplacian * omega, omega]))
    return at.keep * (force - jnp.fft.rfft2(by_x[0] * by_y[1] - by_y[0] * by_x[1]))


@partial(jax.jit, static_argnames="fluid")
def advance(fluid: Fluid, at: Modes, decay: jax.Array, force: jax.Array, states: jax.Array) -> jax.Array:
    """``frame_steps`` steps of all trajectories, (N, size, size // 2 + 1) -> same."""
    slope = partial(tendency, at, force)
    return march(lambda omega: rk4(slope, omega, fluid.dt, decay), states, fluid.frame_steps)


@jax.jit
def observe(at: Modes, states: jax.Array) -> tuple[jax.Array, jax.Array]:
    """E = |u|^2 / 2, (N, size, size), and the largest |u_x| + |u_y|."""
    psi_x, psi_y = spectral.slopes(at, at.inverse_laplacian * states)
    return (psi_x**2 + psi_y**2) / 2, jnp.max(jnp.abs(psi_x) + jnp.abs(psi_y))


def meta(domain: str, fluid: Fluid, size: int, seed: int, **facts: Any) -> FieldMeta:
    """What maps of such a flow mean; ``facts`` go into the provenance."""
    return FieldMeta(
        domain=domain,
        units="U^2",
        dt_s=fluid.dt * fluid.frame_steps,
        dx_m=2 * math.pi / size,
        boundary=("periodic", "periodic"),
        conservation=fluid.conservation,
        positive=True,
        provenance={
            "equation": "2-D Navier-Stokes",
            "time_unit": "L/(2 pi U)",
            "length_unit": "L/(2 pi)",
            "seed": seed,
            "parameters": asdict(fluid),
            **facts,
        },
    )
