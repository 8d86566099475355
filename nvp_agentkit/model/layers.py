"""The network's parts: boundary-aware padding, blocks to channels and back, residual block, warp."""

from __future__ import annotations

from collections.abc import Sequence

import jax
import jax.numpy as jnp
from flax import linen as nn

from nvp_agentkit.model.config import Boundary

PAD_MODE = {"periodic": "wrap", "reflecting": "symmetric", "open": "edge"}
Edges = Sequence[Boundary]


def pad(x: jax.Array, before: Sequence[int], after: Sequence[int], boundary: Edges) -> jax.Array:
    """(B, H, W, C) extended by ``before`` and ``after`` cells (y, x), each axis by its own boundary."""
    for axis, (low, high, kind) in enumerate(zip(before, after, boundary, strict=True), start=1):
        if low or high:
            widths = [(0, 0)] * x.ndim
            widths[axis] = (low, high)
            x = jnp.pad(x, widths, mode=PAD_MODE[kind])
    return x


def space_to_depth(x: jax.Array, block: int) -> jax.Array:
    """(B, H, W, C) -> (B, H/block, W/block, block*block*C)."""
    b, h, w, c = x.shape
    x = x.reshape(b, h // block, block, w // block, block, c).transpose(0, 1, 3, 2, 4, 5)
    return x.reshape(b, h // block, w // block, block * block * c)


def depth_to_space(x: jax.Array, block: int) -> jax.Array:
    """The inverse of `space_to_depth`."""
    b, h, w, c = x.shape
    x = x.reshape(b, h, w, block, block, c // block**2).transpose(0, 1, 3, 2, 4, 5)
    return x.reshape(b, h * block, w * block, c // block**2)


def gradients(energy: jax.Array, boundary: Edges) -> tuple[jax.Array, jax.Array]:
    """Central differences (dE/dx, dE/dy) per cell of (B, H, W, C)."""
    x = pad(energy, (1, 1), (1, 1), boundary)
    return (x[:, 1:-1, 2:] - x[:, 1:-1, :-2]) / 2, (x[:, 2:, 1:-1] - x[:, :-2, 1:-1]) / 2


def warp(field: jax.Array, flow: jax.Array, boundary: Edges) -> jax.Array:
    """The field seen at x + flow, bilinear.

    Args:
        field: (B, H, W), any unit.
        flow: (B, H, W, 2), displacement (y, x) in cells.

    Returns:
        (B, H, W). Beyond a periodic edge the other side is seen, beyond any other the edge itself.
    """
    b, h, w = field.shape
    low, share = [], []
    for axis, size in enumerate((h, w)):
        index = jnp.arange(size, dtype=flow.dtype)
        place = flow[..., axis] + (index[:, None] if axis == 0 else index)
        if boundary[axis] != "periodic":
            place = jnp.clip(place, 0, size - 1)
        floor = jnp.floor(place)
        low.append(floor.astype(jnp.int32))
        share.append(place - floor)
    wrap = [edge == "periodic" for edge in boundary]
    rows = [r % h if wrap[0] else jnp.clip(r, 0, h - 1) for r in (low[0], low[0] + 1)]
    columns = [c % w if wrap[1] else jnp.clip(c, 0, w - 1) for c in (low[1], low[1] + 1)]
    flat = field.reshape(b, h * w)

    def seen(row: jax.Array, column: jax.Array) -> jax.Array:
        index = (row * w + column).reshape(b, h * w)
        return jnp.take_along_axis(flat, index, axis=1, mode="promise_in_bounds").reshape(b, h, w)

    (fy, fx) = share
    top = seen(rows[0], columns[0]) * (1 - fx) + seen(rows[0], columns[1]) * fx
    bottom = seen(rows[1], columns[0]) * (1 - fx) + seen(rows[1], columns[1]) * fx
    return top * (1 - fy) + bottom * fy


class Conv(nn.Module):
    """3x3 convolution that pads by the domain's boundary."""

    features: int
    boundary: Edges
    zero: bool = False

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        init = nn.initializers.zeros if self.zero else nn.initializers.lecun_normal()
        x = pad(x, (1, 1), (1, 1), self.boundary)
        return nn.Conv(self.features, (3, 3), padding="VALID", kernel_init=init)(x)


class ResidualBlock(nn.Module):
    """x + conv(gelu(conv(gelu(x)))); the last kernel starts at zero, so the block starts as the identity."""

    features: int
    boundary: Edges = ("periodic", "periodic")

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        short = x if x.shape[-1] == self.features else nn.Dense(self.features, name="project")(x)
        y = Conv(self.features, self.boundary)(nn.gelu(x))
        return short + Conv(self.features, self.boundary, zero=True)(nn.gelu(y))
