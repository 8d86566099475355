"""Totals that are right by construction: what a domain's class says of sum E holds for every forecast, to rounding.

A forecast is the mean m and variance v of each cell. Told that the cells sum to b, it becomes (ProbConserv, Hansen et
al. 2023, for independent cells)

    m' = m + v (b - sum m) / sum v        v' = v - v^2 / sum v

so cells that are sure of themselves move least. *closed*: b is the total of the newest frame. *dissipative*: b is that
total where m would exceed it, and m is left alone where it does not. *open*: nothing is known. What came obeys these
bounds, and they are convex: keeping them brings any forecast nearer to it, in the metric of 1 / v. A learned b has no
such warrant (`docs/decisions/026-totals-by-class.md`).
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from nvp_agentkit.fields.sequence import Conservation

TURNS = 8  # Newton's, at most; two or three find which cells lie on the bound
TINY = 1e-30  # no cell counts, or all lie on the bound: nothing can move
LARGEST_SHARE = 0.999  # of sum v that one cell may have: nobody is told a single cell's value for certain


def project(
    mean: jax.Array, log_var: jax.Array, budget: jax.Array, weight: jax.Array | None = None
) -> tuple[jax.Array, jax.Array]:
    """The forecast, or a draw from it, once its total is known.

    Args:
        mean: (B, H, W), any unit.
        log_var: (B, H, W), of that unit squared.
        budget: (B,), the total of each map.
        weight: (B, H, W), 1 for a cell that counts, 0 for one that is left as it is; None: all count.

    Returns:
        Mean and log-variance. A draw from N(mean, exp(log_var)) put in for ``mean`` becomes one from what the
        distribution is once the total is known (Matheron's rule).
    """
    variance = _weighted(jnp.exp(log_var), weight)
    share = variance / _maps(jnp.maximum(total(variance), TINY))
    missing = budget - total(mean, weight)
    return mean + share * _maps(missing), log_var + jnp.log1p(-jnp.minimum(share, LARGEST_SHARE))


def conserve(
    kind: Conservation, mean: jax.Array, log_var: jax.Array, newest: jax.Array, weight: jax.Array | None = None
) -> tuple[jax.Array, jax.Array]:
    """The forecast (B, H, W) after a frame ``newest`` of a domain of class ``kind``; ``weight`` as in `project`."""
    if kind == "open":
        return mean, log_var
    now = total(newest, weight)
    if kind == "closed":
        return project(mean, log_var, now, weight)
    return project(mean, log_var, jnp.minimum(now, total(mean, weight)), weight)[0], log_var


def bounded(
    kind: Conservation,
    mean: jax.Array,
    log_var: jax.Array,
    low: ArrayLike,
    high: ArrayLike,
    weight: jax.Array | None = None,
) -> jax.Array:
    """``mean`` (B, H, W) with no cell below ``low``, and with the total it had unless the domain is open.

    What cells are lifted by is taken from the others in proportion to their variance: max(m + l v, low) with the l that
    keeps the total, which is the nearest such field. (Scaling all cells down would move large ones most, sure of
    themselves or not.) Only where all cells at ``low`` are too much is the total above what it was. ``high`` is a
    guard against a forecast gone astray: it is applied first, and what it cuts off goes to other cells.
    """
    cut = jnp.clip(mean, low, high)
    if kind == "open":
        return cut
    budget, variance = total(mean, weight), _weighted(jnp.exp(log_var), weight)

    def turn(_: int, moved: jax.Array) -> jax.Array:
        free = _weighted(variance, moved > low)
        missing = budget - total(jnp.maximum(moved, low), weight)
        return moved + variance * _maps(missing / jnp.maximum(total(free), TINY))

    return jnp.maximum(jax.lax.fori_loop(0, TURNS, turn, cut), low)


def total(field: jax.Array, weight: jax.Array | None = None) -> jax.Array:
    """Sum over the cells that count of (B, H, W): (B,)."""
    return jnp.sum(_weighted(field, weight), (1, 2))


def _weighted(field: jax.Array, weight: jax.Array | None) -> jax.Array:
    return field if weight is None else field * weight


def _maps(values: jax.Array) -> jax.Array:
    return values[:, None, None]
