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
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import numpy.typing as npt

from nvp_agentkit.errors import InvalidInput

RK4_LIMIT = 2.78  # |lambda dt| on the negative real axis up to which RK4 is stable
REFERENCE_DAMPING = 1e-4 * (0.15 * 256 / 3) ** 4  # nu k^4 at the cut-off of the reference task: 2.7
COURANT_LIMIT = 4.5  # of the fastest point; measured: E is right to 2e-4 at 4.6, off by 3e-2 at 5.2, NaN at 6.2

Spectra = npt.NDArray[np.complex64]


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
        damping = self.nu * (self.k0 * size / 3) ** 4
        if damping < 0.5:
            raise InvalidInput(
                f"nu={self.nu} leaves the grid scale undamped at size {size}: nu k_cut^4 is {damping:.2g}, limit 0.5; "
                f"use nu >= {self.nu * 0.5 / damping:.2g}"
            )


def check_courant(speed: float, size: int, parameters: Parameters) -> None:
    """Refuse a flow that outruns ``dt``; a NaN fails this too."""
    courant = speed * parameters.k0 * size / 3 * parameters.dt
    if not courant < COURANT_LIMIT:
        raise InvalidInput(
            f"dt={parameters.dt} is too long for the flow at size {size}: Courant number {courant:.2f}, "
            f"limit {COURANT_LIMIT}; halve dt"
        )


class Grid(NamedTuple):
    """Wavenumbers and factors of one grid, shape (size, size // 2 + 1) each, float32."""

    ikx: jax.Array
    iky: jax.Array
    minus_k2: jax.Array
    inverse_laplacian: jax.Array
    waves: jax.Array  # 1 where the mode is no zonal mean and no constant
    keep: jax.Array  # 2/3 rule
    decay: jax.Array  # exp(-nu k^4 dt / 2)


def make_grid(size: int, parameters: Parameters) -> Grid:
    """Axis 0 is y, axis 1 (halved by the real transform) is x."""
    whole = np.fft.fftfreq(size, 1 / size)
    half = np.arange(size // 2 + 1.0)
    ky, kx = parameters.k0 * whole[:, None], parameters.k0 * half[None, :]
    k2 = kx**2 + ky**2
    keep = (np.abs(whole)[:, None] < size / 3) & (half[None, :] < size / 3)
    inverse = np.divide(-1.0, k2, out=np.zeros_like(k2), where=k2 > 0)
    shape = k2.shape

    def single(values: npt.NDArray[Any], dtype: type = np.float32) -> jax.Array:
        return jnp.asarray(np.broadcast_to(values, shape).astype(dtype))

    return Grid(
        ikx=single(1j * kx, np.complex64),
        iky=single(1j * ky, np.complex64),
        minus_k2=single(-k2),
        inverse_laplacian=single(inverse),
        waves=single(whole[:, None] != 0),
        keep=single(keep),
        decay=single(np.exp(-parameters.nu * k2**2 * parameters.dt / 2)),
    )


def tendency(grid: Grid, alpha: float, kappa: float, state: jax.Array) -> jax.Array:
    """Right-hand side without the hyperviscosity, for one trajectory: (2, size, size // 2 + 1) -> same."""
    zeta, n = state
    phi = grid.inverse_laplacian * zeta
    phi_x, phi_y, zeta_x, zeta_y, n_x, n_y = _to_grid(
        jnp.stack([phi, phi, zeta, zeta, n, n]) * jnp.stack([grid.ikx, grid.iky] * 3)
    )
    brackets = jnp.stack([phi_x * zeta_y - phi_y * zeta_x, phi_x * n_y - phi_y * n_x])
    coupling = alpha * grid.waves * (phi - n)
    drive = jnp.stack([coupling, coupling - kappa * grid.iky * phi])
    return grid.keep * (drive - jnp.fft.rfft2(brackets))


def energy(grid: Grid, state: jax.Array) -> tuple[jax.Array, jax.Array]:
    """E = (n^2 + |grad phi|^2) / 2, shape (size, size), and the fastest flow |phi_x| + |phi_y| in it."""
    phi = grid.inverse_laplacian * state[0]
    n, phi_x, phi_y = _to_grid(jnp.stack([state[1], grid.ikx * phi, grid.iky * phi]))
    return (n**2 + phi_x**2 + phi_y**2) / 2, jnp.max(jnp.abs(phi_x) + jnp.abs(phi_y))


def _to_grid(spectra: jax.Array) -> jax.Array:
    size = spectra.shape[-2]
    return jnp.fft.irfft2(spectra, s=(size, size))


def step(grid: Grid, parameters: Parameters, state: jax.Array) -> jax.Array:
    """One integrating-factor RK4 step of ``dt``: the hyperviscosity is exact."""
    dt, half = parameters.dt, grid.decay
    slope = partial(tendency, grid, parameters.alpha, parameters.kappa)
    k1 = slope(state)
    k2 = slope(half * (state + dt / 2 * k1))
    k3 = slope(half * state + dt / 2 * k2)
    k4 = slope(half * (half * state + dt * k3))
    return half * (half * (state + dt / 6 * k1) + dt / 3 * (k2 + k3)) + dt / 6 * k4


@partial(jax.jit, static_argnames="parameters")
def next_frame(grid: Grid, parameters: Parameters, states: jax.Array) -> tuple[jax.Array, jax.Array, jax.Array]:
    """``frame_steps`` steps of all trajectories: states (N, 2, size, size // 2 + 1), E (N, size, size), top speed."""

    def one(state: jax.Array) -> tuple[jax.Array, jax.Array, jax.Array]:
        state = jax.lax.fori_loop(0, parameters.frame_steps, lambda _, s: step(grid, parameters, s), state)
        return state, *energy(grid, state)

    states, maps, speeds = jax.vmap(one)(states)
    return states, maps, jnp.max(speeds)


def noise(size: int, parameters: Parameters, seed: int, trajectory: int) -> Spectra:
    """Smooth random n = phi of unit rms, the same for a seed and trajectory whatever else is simulated."""
    spectrum = np.fft.rfft2(np.random.default_rng([seed, trajectory]).standard_normal((size, size)))
    ky, kx = np.fft.fftfreq(size, 1 / size)[:, None], np.arange(size // 2 + 1.0)[None, :]
    k2 = parameters.k0**2 * (kx**2 + ky**2)
    n = spectrum * np.exp(-k2) * (k2 > 0)
    n /= np.fft.irfft2(n, s=(size, size)).std()
    return np.stack([-k2 * n, n]).astype(np.complex64)


def regrid(states: Spectra, size: int) -> Spectra:
    """The same fields on a finer grid: (..., old, old // 2 + 1) -> (..., size, size // 2 + 1)."""
    old = states.shape[-2]
    if old == size:
        return states
    fine = np.zeros((*states.shape[:-2], size, size // 2 + 1), np.complex64)
    low = old // 3 + 1  # above it dealiasing has left nothing
    fine[..., :low, :low] = states[..., :low, :low]
    fine[..., -low:, :low] = states[..., -low:, :low]
    fine *= np.float32((size / old) ** 2)
    return fine
