"""The modified Hasegawa-Wakatani equations: drift-wave turbulence at the edge of a magnetised plasma.

    d zeta / dt + [phi, zeta] = alpha (phi~ - n~)                  - nu lap^2 zeta
    d n    / dt + [phi, n   ] = alpha (phi~ - n~) - kappa d phi/dy - nu lap^2 n
    zeta = lap phi,   [a, b] = a_x b_y - a_y b_x,   f~ = f - <f>_y (the zonal mean does not couple)

phi is the electrostatic potential, n the density fluctuation, zeta the vorticity; lengths are in hybrid Larmor radii
rho_s, times in L_n / c_s. State: (zeta, n) in Fourier space, shape (N, 2, size, size // 2 + 1) complex64.
Energy density: E = (n^2 + |grad phi|^2) / 2.

Method: integrating factor for the hyperviscosity, RK4 for the rest, 2/3 dealiasing, float32.
Failure modes: (alpha (1 + 1/k0^2) + kappa) dt above 2.78 leaves RK4's stability region, and nu too small lets energy
pile up at the grid scale: `Parameters.check` refuses both. Advection that outruns dt: `check_courant`.
Source: Hasegawa & Wakatani, PRL 50, 682 (1983); zonal modification: Numata, Ball & Dewar, PoP 14, 102312 (2007).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np

from nvp_agentkit.domains import spectral
from nvp_agentkit.domains.runs import Solver
from nvp_agentkit.domains.spectral import Modes, Spectra
from nvp_agentkit.domains.stepping import RK4_LIMIT, march, rk4
from nvp_agentkit.errors import InvalidInput

REFERENCE_DAMPING = 1e-4 * (0.15 * 256 / 3) ** 4  # nu k^4 at the cut-off of the reference task: 2.7
COURANT_LIMIT = 4.5  # of the fastest point; measured: E is right to 2e-4 at 4.6, off by 3e-2 at 5.2, NaN at 6.2


@dataclass(frozen=True)
class Parameters:
    """Physics and numbers of one run. The defaults at size 256 are the project's reference task.

    Attributes:
        alpha: adiabaticity, coupling of n and phi along the field line; 1 is turbulent with zonal flows.
        kappa: background density gradient, the drive.
        k0: smallest wavenumber; the box is 2 pi / k0 wide.
        nu: hyperviscosity; must damp the grid scale, see `for_size`.
        dt: time step.
        frame_steps: steps between delivered frames.
        spin_up: time before the first frame, long enough to forget the initial noise.
        refine: the last part of the spin-up, at full resolution; what comes before runs at 128 at most.
    """

    alpha: float = 1.0
    kappa: float = 1.0
    k0: float = 0.15
    nu: float = 1e-4
    dt: float = 0.05
    frame_steps: int = 10
    spin_up: float = 170.0
    refine: float = 20.0

    @staticmethod
    def for_size(size: int) -> Parameters:
        """The same physics on a grid of ``size``: the reference task from 256 up, a smaller box below.

        A coarser grid on the reference box would need a hyperviscosity that damps the instability (k about 1)
        itself, so the box shrinks by up to 4/3 at 64 and with the grid below. The hyperviscosity damps the
        dealiasing cut-off at the reference's rate throughout. Below 256 frames are also delivered earlier: drift
        waves have saturated by t = 40, and from t = 100 on zonal flows calm some runs (persistence VRMSE of single
        trajectories 0.06 to 0.56 at 64, against 0.25 to 0.49 from 40 on). Frames are spaced for a persistence
        VRMSE of E near 0.35: 0.36 at 32 and 64 (12 runs); 0.31, 0.41 and 0.28 at 96, 128 and 256 (4, 2 and 1 runs).
        """
        k0 = max(0.15, 12.8 / size)
        nu = REFERENCE_DAMPING / (k0 * size / 3) ** 4
        if size >= 256:
            slower = math.ceil(size / 256)
            return Parameters(k0=k0, nu=nu, dt=0.05 / slower, frame_steps=10 * slower)
        return Parameters(k0=k0, nu=nu, dt=0.08 if size <= 64 else 0.05, frame_steps=11, spin_up=40.0)

    def check(self, size: int) -> None:
        """Refuse what RK4 or the grid cannot carry, naming the limit."""
        rate = self.alpha * (1 + 1 / self.k0**2) + self.kappa
        if rate * self.dt > RK4_LIMIT:
            raise InvalidInput(
                f"dt={self.dt} is unstable for alpha={self.alpha}, k0={self.k0}: "
                f"(alpha (1 + 1/k0^2) + kappa) dt is {rate * self.dt:.2f}, limit {RK4_LIMIT}; "
                f"use dt <= {RK4_LIMIT / rate:.3g}"
            )
        spectral.check_damping("nu", self.nu, 4, size, self.k0)


def solver(size: int, parameters: Parameters, *, density: bool = False) -> Solver:
    """Frames ``frame_steps`` steps apart on ``size`` cells a side: maps of E, or of n.

    Raises:
        InvalidInput: see `Parameters.check`.
    """
    parameters.check(size)
    at = spectral.modes(size, parameters.k0)
    kx, ky = spectral.wavenumbers(size, parameters.k0)
    decay = spectral.half_decay(parameters.nu * (kx**2 + ky**2) ** 2, parameters.dt)
    return Solver(
        size,
        advance=partial(advance, parameters, at, decay),
        observe=partial(observe_density if density else observe, at),
        check=partial(_check_courant, size, parameters),
        receive=partial(spectral.regrid, size=size),
    )


def tendency(at: Modes, parameters: Parameters, state: jax.Array) -> jax.Array:
    """Right-hand side without the hyperviscosity, for one trajectory: (2, size, size // 2 + 1) -> same."""
    zeta, n = state
    phi = at.inverse_laplacian * zeta
    by_x, by_y = spectral.slopes(at, jnp.stack([phi, zeta, n]))
    brackets = jnp.stack([by_x[0] * by_y[f] - by_y[0] * by_x[f] for f in (1, 2)])
    coupling = jnp.where(at.iky != 0, parameters.alpha * (phi - n), 0)
    drive = jnp.stack([coupling, coupling - parameters.kappa * at.iky * phi])
    return at.keep * (drive - jnp.fft.rfft2(brackets))


@partial(jax.jit, static_argnames="parameters")
def advance(parameters: Parameters, at: Modes, decay: jax.Array, states: jax.Array) -> jax.Array:
    """``frame_steps`` steps of all trajectories, (N, 2, size, size // 2 + 1) -> same: the hyperviscosity is exact."""
    slope = partial(tendency, at, parameters)
    return march(lambda state: rk4(slope, state, parameters.dt, decay), states, parameters.frame_steps)


@jax.jit
def observe(at: Modes, states: jax.Array) -> tuple[jax.Array, jax.Array]:
    """E = (n^2 + |grad phi|^2) / 2, (N, size, size), and the fastest flow |phi_x| + |phi_y| in it."""
    n = spectral.to_grid(states[:, 1])
    phi_x, phi_y = spectral.slopes(at, at.inverse_laplacian * states[:, 0])
    return (n**2 + phi_x**2 + phi_y**2) / 2, jnp.max(jnp.abs(phi_x) + jnp.abs(phi_y))


@jax.jit
def observe_density(at: Modes, states: jax.Array) -> tuple[jax.Array, jax.Array]:
    """The fluctuation n, (N, size, size), and what `observe` says of the flow."""
    return spectral.to_grid(states[:, 1]), observe(at, states)[1]


def _check_courant(size: int, parameters: Parameters, speed: float) -> None:
    spectral.check_courant(speed, size, parameters.k0, parameters.dt, COURANT_LIMIT)


def noise(size: int, parameters: Parameters, seed: int, trajectory: int) -> Spectra:
    """Smooth random n = phi of unit rms, the same for a seed and trajectory whatever else is simulated."""
    spectrum = np.fft.rfft2(np.random.default_rng([seed, trajectory]).standard_normal((size, size)))
    ky, kx = np.fft.fftfreq(size, 1 / size)[:, None], np.arange(size // 2 + 1.0)[None, :]
    k2 = parameters.k0**2 * (kx**2 + ky**2)
    n = spectrum * np.exp(-k2) * (k2 > 0)
    n /= np.fft.irfft2(n, s=(size, size)).std()
    return np.stack([-k2 * n, n]).astype(np.complex64)
