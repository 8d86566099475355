"""Fields on cells, not in Fourier space: the same on another grid, and whether they are numbers still."""

from __future__ import annotations

import math

import jax
import jax.numpy as jnp

from nvp_agentkit.domains.stepping import State
from nvp_agentkit.errors import InvalidInput


def regrid(states: State, size: int) -> State:
    """Leaves (..., old, old) -> (..., size, size): block means to a coarser grid, linear between cells to a finer one.

    Other leaves stay as they are, and so does every leaf on the same grid.
    """
    old = max(leaf.shape[-1] for leaf in jax.tree.leaves(states) if _is_map(leaf))
    return states if old == size else jax.tree.map(lambda leaf: _to(leaf, size) if _is_map(leaf) else leaf, states)


def _is_map(leaf: jax.Array) -> bool:
    return leaf.ndim > 2 and leaf.shape[-2] == leaf.shape[-1]


def _to(maps: jax.Array, size: int) -> jax.Array:
    old = maps.shape[-1]
    if old < size:
        between: jax.Array = jax.image.resize(maps, (*maps.shape[:-2], size, size), "linear")
        return between
    factor = old // size
    blocks = jnp.asarray(maps).reshape(*maps.shape[:-2], size, factor, size, factor)
    return jnp.mean(blocks, (-3, -1))


def check_finite(greatest: float) -> None:
    """Refuse what has overflowed."""
    if not math.isfinite(greatest):
        raise InvalidInput(f"the greatest value became {greatest}; lower the power or shorten dt")
