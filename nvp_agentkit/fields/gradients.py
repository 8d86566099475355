"""Spatial gradients that respect the edges: spectral along a periodic axis, one-sided where the field ends."""

from __future__ import annotations

import jax
import jax.numpy as jnp

from nvp_agentkit.fields.sequence import Boundary


def gradients(energy: jax.Array, boundary: tuple[Boundary, Boundary], dx: float = 1.0) -> tuple[jax.Array, jax.Array]:
    """(dE/dx, dE/dy), each of the shape of ``energy``.

    Args:
        energy: maps, shape (..., H, W); y along H, x along W.
        boundary: of the (y, x) axes.
        dx: distance between cells; the result has the field's unit over that of ``dx``.

    Exact for resolved waves on a periodic axis (the Nyquist wave of an even axis, whose slope the grid cannot show,
    counts as flat); elsewhere second-order differences, exact for parabolas, also at the edges.
    """
    along_y, along_x = (_derivative(energy, axis, boundary[axis], dx) for axis in (-2, -1))
    return along_x, along_y


def _derivative(energy: jax.Array, axis: int, boundary: Boundary, dx: float) -> jax.Array:
    if boundary == "periodic":
        return _spectral(jnp.moveaxis(energy, axis, -1), axis, dx)
    return jnp.moveaxis(_one_sided(jnp.moveaxis(energy, axis, -1)) / dx, -1, axis)


def _spectral(lines: jax.Array, axis: int, dx: float) -> jax.Array:
    side = lines.shape[-1]
    wave = 2j * jnp.pi * jnp.fft.rfftfreq(side, dx)
    if side % 2 == 0:
        wave = wave.at[-1].set(0)
    slope = jnp.fft.irfft(wave.astype(jnp.complex64) * jnp.fft.rfft(lines), side)
    return jnp.moveaxis(slope, -1, axis)


def _one_sided(lines: jax.Array) -> jax.Array:
    inner = (lines[..., 2:] - lines[..., :-2]) / 2
    first = (-3 * lines[..., :1] + 4 * lines[..., 1:2] - lines[..., 2:3]) / 2
    last = (3 * lines[..., -1:] - 4 * lines[..., -2:-1] + lines[..., -3:-2]) / 2
    return jnp.concatenate([first, inner, last], axis=-1)
