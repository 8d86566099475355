"""Drift-wave turbulence at the edge of a magnetised plasma: the modified Hasegawa-Wakatani equations.

    d zeta / dt + [phi, zeta] = alpha (phi~ - n~)                  - nu lap^2 zeta
    d n    / dt + [phi, n   ] = alpha (phi~ - n~) - kappa d phi/dy - nu lap^2 n
    zeta = lap phi,   [a, b] = a_x b_y - a_y b_x,   f~ = f - <f>_y (the zonal mean does not couple)

All lengths are in hybrid Larmor radii rho_s, times in density-gradient times L_n / c_s, so nothing here has an SI
unit and the ``dt_s``/``dx_m`` of the result count those. State: (zeta, n) in Fourier space, shape
(N, 2, size, size // 2 + 1) complex64. Delivered: the energy density E = (n^2 + |grad phi|^2) / 2, shape
(N, T, size, size). It is driven by the density gradient, so the total is not conserved: conservation "open".

Method: integrating factor for the hyperviscosity, RK4 for the rest, 2/3 dealiasing, float32.
Failure modes: alpha dt (1 + 1/k0^2) above 2.78 leaves RK4's stability region and is refused; a violent run whose
advection outruns dt ends in NaN and is refused after the fact, naming dt.
Source: Hasegawa & Wakatani, PRL 50, 682 (1983); zonal modification: Numata, Ball & Dewar, PoP 14, 102312 (2007).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, replace
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import numpy.typing as npt

from nvp_agentkit.errors import InvalidInput
from nvp_agentkit.fields.sequence import FieldMeta, SequenceSet

RK4_LIMIT = 2.78  # |lambda dt| on the negative real axis up to which RK4 is stable
REFERENCE_DAMPING = 1e-4 * (0.15 * 256 / 3) ** 4  # nu k^4 at the cut-off of the reference task: 2.7
COURANT_LIMIT = 4.5  # of the fastest point; measured: E is right to 2e-4 at 4.6, off by 3e-2 at 5.2, NaN at 6.2
SPIN_UP_SIZE = 128  # a grid finer than this starts coarse
CELLS_AT_ONCE = 2**18  # bounds memory: 64 trajectories of 64x64 or 4 of 256x256 step together

Progress = Callable[[int, int], None]
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
        refine: of the spin-up, the last time units run at full resolution (the rest at half, from 128 up).
    """

    alpha: float = 1.0
    kappa: float = 1.0
    k0: float = 0.15
    nu: float = 1e-4
    dt: float = 0.05
    frame_steps: int = 10
    spin_up: float = 150.0
    refine: float = 20.0

    @staticmethod
    def for_size(size: int) -> Parameters:
        """The same physics on a grid of ``size``: the reference task from 256 up, a smaller box below.

        A coarser grid on the reference box would need a hyperviscosity that damps the instability (k about 1)
        itself, so the box shrinks by up to 4/3 at 64 and with the grid below. The hyperviscosity damps the
        dealiasing cut-off at the reference's rate throughout. Small boxes are also delivered earlier: their drift
        waves have saturated by t = 40 and zonal flows calm some runs from t = 100 on (persistence VRMSE of single
        trajectories 0.06 to 0.56 at 64, against 0.29 to 0.59 from 40 on). Frames are spaced for 0.30 to 0.40.
        """
        k0 = max(0.15, 12.8 / size)
        nu = REFERENCE_DAMPING / (k0 * size / 3) ** 4
        if size > 64:
            slower = max(1, math.ceil(size / 256))
            return Parameters(k0=k0, nu=nu, dt=0.05 / slower, frame_steps=10 * slower)
        return Parameters(k0=k0, nu=nu, dt=0.08, frame_steps=11, spin_up=40.0)

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


def simulate(
    trajectories: int = 12,
    frames: int = 41,
    size: int = 64,
    seed: int = 0,
    progress: Progress | None = None,
    *,
    parameters: Parameters | None = None,
) -> SequenceSet:
    """Energy maps of ``trajectories`` independent runs, values (trajectories, frames, size, size).

    Args:
        trajectories: runs that differ in their initial noise.
        frames: delivered per run, `Parameters.frame_steps` steps apart.
        size: cells a side, even, >= 16.
        seed: equal seeds give equal bits on one platform.
        progress: called after every frame's worth of steps with (done, of); what it raises ends the run.
        parameters: default `Parameters.for_size(size)`.

    Raises:
        InvalidInput: counts or parameters out of range, or the run became unstable; names the limit.
    """
    if trajectories < 1 or frames < 1 or size < 16 or size % 2:
        raise InvalidInput(
            f"{trajectories} trajectories, {frames} frames, size {size}: give at least 1, 1 and an even size >= 16"
        )
    parameters = parameters or Parameters.for_size(size)
    plan = _plan(frames, size, parameters)
    for stage in plan:
        stage.parameters.check(stage.size)
    batch = min(trajectories, max(1, CELLS_AT_ONCE // size**2))
    starts = range(0, trajectories, batch)
    ticks = _ticks(progress, len(starts) * sum(stage.frames for stage in plan))
    runs = []
    for start in starts:  # the last batch is as large as the others: one compiled shape
        states = [noise(plan[0].size, parameters, seed, start + number) for number in range(batch)]
        runs.append(_run(np.stack(states), plan, ticks))
    return SequenceSet(np.concatenate(runs)[:trajectories], None, _meta(parameters, size, seed))


class Stage(NamedTuple):
    """A stretch of a run on one grid; only the last stage's frames are delivered."""

    size: int
    parameters: Parameters
    frames: int


def _plan(frames: int, size: int, parameters: Parameters) -> list[Stage]:
    period = parameters.dt * parameters.frame_steps
    if size <= SPIN_UP_SIZE:
        return [Stage(size, parameters, round(parameters.spin_up / period)), Stage(size, parameters, frames)]
    coarse_nu = REFERENCE_DAMPING / (parameters.k0 * SPIN_UP_SIZE / 3) ** 4
    coarse = replace(parameters, nu=coarse_nu, dt=0.05, frame_steps=10)
    return [
        Stage(SPIN_UP_SIZE, coarse, round((parameters.spin_up - parameters.refine) / 0.5)),
        Stage(size, parameters, round(parameters.refine / period)),
        Stage(size, parameters, frames),
    ]


def _ticks(progress: Progress | None, total: int) -> Iterator[None]:
    for done in range(1, total + 1):
        if progress:
            progress(done, total)
        yield


def _run(states: Spectra, plan: list[Stage], ticks: Iterator[None]) -> npt.NDArray[np.float32]:
    """Energy maps (N, T, size, size) of the plan's last stage."""
    for stage in plan:
        grid, current = make_grid(stage.size, stage.parameters), jnp.asarray(regrid(states, stage.size))
        delivered = []
        for _ in range(stage.frames):
            current, maps, speed = next_frame(grid, stage.parameters, current)
            _check_courant(float(speed), stage)
            if stage is plan[-1]:
                delivered.append(np.asarray(maps))
            next(ticks)
        states = np.asarray(current)
    return np.stack(delivered, axis=1)


def _check_courant(speed: float, stage: Stage) -> None:
    """Advection may not outrun ``dt``; a NaN fails this too."""
    dt = stage.parameters.dt
    courant = speed * stage.parameters.k0 * stage.size / 3 * dt
    if not courant < COURANT_LIMIT:
        raise InvalidInput(
            f"dt={dt} is too long for the flow at size {stage.size}: Courant number {courant:.2f}, "
            f"limit {COURANT_LIMIT}; halve dt"
        )


def _meta(parameters: Parameters, size: int, seed: int) -> FieldMeta:
    return FieldMeta(
        domain="plasma_physics",
        units="n0 Te (rho_s/L_n)^2",
        dt_s=parameters.dt * parameters.frame_steps,
        dx_m=2 * math.pi / parameters.k0 / size,
        boundary=("periodic", "periodic"),
        conservation="open",
        positive=True,
        provenance={
            "equation": "modified Hasegawa-Wakatani",
            "time_unit": "L_n/c_s",
            "length_unit": "rho_s",
            "seed": seed,
            "parameters": asdict(parameters),
        },
    )
