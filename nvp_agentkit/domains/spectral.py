"""Periodic boxes in Fourier space: wavenumbers, derivatives, random fields, and what a grid can carry.

Spectra are ``jnp.fft.rfft2`` of (size, size) maps: shape (..., size, size // 2 + 1) complex64, axis -2 is y, axis -1 x.
A box is 2 pi / k0 wide. The 2/3 rule keeps |k_x| and |k_y| below the cut-off k0 size / 3, so products do not alias.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import numpy.typing as npt

from nvp_agentkit.errors import InvalidInput

COURANT_LIMIT = 2 * math.sqrt(2)  # RK4 carries a wave of k u dt up to here
LEAST_DAMPING = 0.5  # of the cut-off, per unit of time: about one turn-over in all our equations

Spectra = npt.NDArray[np.complex64]
Doubles = npt.NDArray[np.float64]


class Modes(NamedTuple):
    """Wavenumbers of one grid, each (size, size // 2 + 1)."""

    ikx: jax.Array
    iky: jax.Array
    minus_k2: jax.Array
    inverse_laplacian: jax.Array
    keep: jax.Array  # 2/3 rule


def wavenumbers(size: int, k0: float = 1.0) -> tuple[Doubles, Doubles]:
    """(k_x, k_y), shapes (1, size // 2 + 1) and (size, 1)."""
    whole = np.fft.fftfreq(size, 1 / size).astype(np.float64)
    return k0 * np.arange(size // 2 + 1.0)[None, :], k0 * whole[:, None]


def modes(size: int, k0: float = 1.0) -> Modes:
    """Modes of a box of ``size`` cells a side."""
    kx, ky = wavenumbers(size, k0)
    k2 = kx**2 + ky**2
    inverse = np.divide(-1.0, k2, out=np.zeros_like(k2), where=k2 > 0)
    cut = k0 * size / 3
    keep = (np.abs(ky) < cut) & (kx < cut)

    def single(values: npt.NDArray[Any], dtype: type = np.float32) -> jax.Array:
        return jnp.asarray(np.broadcast_to(values, k2.shape).astype(dtype))

    ikx, iky = single(1j * kx, np.complex64), single(1j * ky, np.complex64)
    return Modes(ikx, iky, single(-k2), single(inverse), single(keep))


def half_decay(rate: npt.ArrayLike, dt: float) -> jax.Array:
    """exp(-rate dt / 2), what `stepping.rk4` takes; ``rate`` as an expression of `wavenumbers`."""
    return jnp.asarray(np.exp(-np.asarray(rate) * dt / 2).astype(np.float32))


def to_grid(spectra: jax.Array) -> jax.Array:
    """(..., size, size // 2 + 1) complex64 -> (..., size, size) float32."""
    size = spectra.shape[-2]
    return jnp.fft.irfft2(spectra, s=(size, size))


def slopes(at: Modes, spectra: jax.Array) -> tuple[jax.Array, jax.Array]:
    """(d/dx, d/dy) on the grid."""
    along = to_grid(jnp.stack([at.ikx * spectra, at.iky * spectra]))
    return along[0], along[1]


def regrid(spectra: npt.ArrayLike, size: int) -> jax.Array:
    """The same fields on another grid, without what that grid dealiases."""
    given = jnp.asarray(spectra, jnp.complex64)
    old = given.shape[-2]
    if old == size:
        return given
    kept = math.ceil(min(old, size) / 3)  # 0 to kept - 1, and back to 1 - kept
    low, high = given[..., :kept, :kept], given[..., 1 - kept :, :kept]
    other = jnp.zeros((*given.shape[:-2], size, size // 2 + 1), jnp.complex64)
    other = other.at[..., :kept, :kept].set(low).at[..., 1 - kept :, :kept].set(high)
    return other * np.float32((size / old) ** 2)


def random_band(size: int, low: float, high: float, seed: list[int]) -> Spectra:
    """A random map of unit rms whose waves all have ``low`` <= |k| <= ``high`` (in waves a side).

    Equal seeds give equal fields on every grid that holds them.
    """
    rng, reach = np.random.default_rng(seed), int(high)
    weight, phase = rng.rayleigh(size=(2 * reach + 1, reach + 1)), rng.uniform(0, 2 * np.pi, (2 * reach + 1, reach + 1))
    kx, ky = np.arange(reach + 1), np.arange(-reach, reach + 1)
    k = np.hypot(kx[None, :], ky[:, None])
    whole = np.zeros((size, size // 2 + 1), np.complex128)
    whole[ky[:, None], kx[None, :]] = np.where((low <= k) & (k <= high), weight * np.exp(1j * phase), 0)
    real = np.fft.irfft2(whole, s=(size, size))
    spectra: Spectra = np.fft.rfft2(real / real.std()).astype(np.complex64)
    return spectra


def random_vorticity(size: int, low: float, high: float, seed: list[int]) -> Spectra:
    """Of a flow of unit rms velocity whose stream function is a `random_band`, in a box 2 pi wide."""
    psi = random_band(size, low, high, seed)
    kx, ky = wavenumbers(size)
    u = np.fft.irfft2(np.stack([-1j * ky * psi, 1j * kx * psi]), s=(size, size))
    omega: Spectra = (-(kx**2 + ky**2) * psi / np.sqrt((u**2).sum(0).mean())).astype(np.complex64)
    return omega


def check_courant(speed: float, size: int, k0: float, dt: float, limit: float = COURANT_LIMIT) -> None:
    """Refuse waves that outrun ``dt``; a NaN fails this too. ``speed``: the largest |u_x| + |u_y|, waves included."""
    courant = speed * k0 * size / 3 * dt
    if not courant < limit:
        raise InvalidInput(
            f"dt={dt:g} is too long for the flow at size {size}: Courant number {courant:.2f}, "
            f"limit {limit:.3g}; halve dt"
        )


def check_damping(name: str, value: float, power: int, size: int, k0: float = 1.0) -> None:
    """Refuse a viscosity ``value`` of k^``power`` that leaves the grid scale undamped: energy would pile up there."""
    weight = (k0 * size / 3) ** power
    if not value * weight >= LEAST_DAMPING:
        raise InvalidInput(
            f"{name}={value:g} leaves the grid scale undamped at size {size}: {name} k_cut^{power} is "
            f"{value * weight:.2g}, limit {LEAST_DAMPING}; use {name} >= {LEAST_DAMPING / weight:.2g}"
        )
