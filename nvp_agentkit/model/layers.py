"""The network's parts: boundary-aware padding, blocks to channels and back, residual block, warp."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn

from nvp_agentkit.fields.sequence import PADDING, Boundary
from nvp_agentkit.model.config import Norm as NormKind

LARGEST_GROUPS = 8
BATCH_MOMENTUM = 0.9  # of running averages: a training of a few hundred steps has to fill them
Edges = Sequence[Boundary]


def pad(x: jax.Array, before: Sequence[int], after: Sequence[int], boundary: Edges) -> jax.Array:
    """(B, H, W, C) extended by ``before`` and ``after`` cells (y, x), each axis by its own boundary."""
    for axis, (low, high, kind) in enumerate(zip(before, after, boundary, strict=True), start=1):
        if low or high:
            widths = [(0, 0)] * x.ndim
            widths[axis] = (low, high)
            x = jnp.pad(x, widths, mode=PADDING[kind])
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
    """The channels seen at x + flow, bilinear.

    Args:
        field: (B, H, W, C), any unit.
        flow: (B, H, W, 2), displacement (y, x) in cells.

    Returns:
        (B, H, W, C). Beyond a periodic edge the other side is seen, beyond any other the edge itself.
    """
    b, h, w, c = field.shape
    (top, low), fy = _neighbours(flow[..., 0], h, jnp.arange(h)[:, None], boundary[0])
    (left, right), fx = _neighbours(flow[..., 1], w, jnp.arange(w), boundary[1])
    corners = jnp.stack([top * w + left, top * w + right, low * w + left, low * w + right], 1).reshape(b, 4 * h * w, 1)
    seen = jnp.take_along_axis(field.reshape(b, h * w, c), corners, axis=1, mode="promise_in_bounds")
    seen = seen.reshape(b, 4, h, w, c)
    upper = seen[:, 0] * (1 - fx) + seen[:, 1] * fx
    lower = seen[:, 2] * (1 - fx) + seen[:, 3] * fx
    return upper * (1 - fy) + lower * fy


def _neighbours(
    shift: jax.Array, size: int, origin: jax.Array, boundary: Boundary
) -> tuple[tuple[jax.Array, jax.Array], jax.Array]:
    """The two cells around ``origin + shift`` on one axis, and the second one's share (with a channel axis)."""
    place = origin + shift
    if boundary != "periodic":
        place = jnp.clip(place, 0, size - 1)
    floor = jnp.floor(place)
    first = floor.astype(jnp.int32)
    inside = jnp.mod if boundary == "periodic" else jnp.minimum
    bound = size if boundary == "periodic" else size - 1
    return (inside(first, bound), inside(first + 1, bound)), (place - floor)[..., None]


def as_precise_as_the_first(*arrays: Any, dtype: Any = None, inexact: bool = True) -> list[Any]:
    """Weights, which are float32, in the precision of a layer's inputs: Flax's own way is the wider of the two."""
    return [None if array is None else array.astype(arrays[0].dtype) for array in arrays]


Dense = partial(nn.Dense, promote_dtype=as_precise_as_the_first)
Convolution = partial(nn.Conv, promote_dtype=as_precise_as_the_first)


def blur(x: jax.Array, sigma: jax.Array | float, boundary: Edges) -> jax.Array:
    """Gaussian mean of (B, H, W, C): round a periodic axis, over what there is on any other."""
    rows = _gaussian(x.shape[1], sigma, boundary[0])
    columns = _gaussian(x.shape[2], sigma, boundary[1])
    return jnp.einsum("hi,wj,bijc->bhwc", rows, columns, x, optimize=True)


def _gaussian(side: int, sigma: jax.Array | float, boundary: Boundary) -> jax.Array:
    place = jnp.arange(side, dtype=jnp.float32)
    apart = jnp.abs(place[:, None] - place)
    if boundary == "periodic":
        apart = jnp.minimum(apart, side - apart)
    weights = jnp.exp(-0.5 * (apart / sigma) ** 2)
    return weights / weights.sum(1, keepdims=True)


class Conv(nn.Module):
    """3x3 convolution that pads by the domain's boundary."""

    features: int
    boundary: Edges
    zero: bool = False

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        init = nn.initializers.zeros if self.zero else nn.initializers.lecun_normal()
        x = pad(x, (1, 1), (1, 1), self.boundary)
        return Convolution(self.features, (3, 3), padding="VALID", kernel_init=init)(x)


class Norm(nn.Module):
    """What a block normalises by; ``none`` leaves values as they are and has no weights."""

    kind: NormKind

    @nn.compact
    def __call__(self, x: jax.Array, training: bool = False) -> jax.Array:
        if self.kind == "group":
            x = nn.GroupNorm(math.gcd(LARGEST_GROUPS, x.shape[-1]), dtype=x.dtype)(x)
        elif self.kind == "batch":
            x = nn.BatchNorm(use_running_average=not training, momentum=BATCH_MOMENTUM, dtype=x.dtype)(x)
        return x


class ResidualBlock(nn.Module):
    """x + conv(gelu(conv(gelu(x)))), normalised before each gelu if at all.

    The last kernel of a block with a residual starts at zero, so it starts as the identity.
    """

    features: int
    boundary: Edges = ("periodic", "periodic")
    norm: NormKind = "none"
    residual: bool = True

    @nn.compact
    def __call__(self, x: jax.Array, training: bool = False) -> jax.Array:
        if self.residual:
            short = x if x.shape[-1] == self.features else Dense(self.features, name="project")(x)
        y = Conv(self.features, self.boundary)(nn.gelu(Norm(self.norm)(x, training)))
        y = Conv(self.features, self.boundary, zero=self.residual)(nn.gelu(Norm(self.norm)(y, training)))
        return short + y if self.residual else y
