"""One step in time, and many."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import jax

RK4_LIMIT = 2.78  # |lambda dt| on the negative real axis up to which RK4 is stable

State = Any  # arrays, or a NamedTuple of them
S = TypeVar("S")


def rk4(
    slope: Callable[[jax.Array], jax.Array], state: jax.Array, dt: float, half_decay: jax.Array | float = 1.0
) -> jax.Array:
    """One step of ``dt``; ``half_decay`` is exp(L dt / 2) of the stiff linear part L, which is then exact."""
    half = half_decay
    k1 = slope(state)
    k2 = slope(half * (state + dt / 2 * k1))
    k3 = slope(half * state + dt / 2 * k2)
    k4 = slope(half * (half * state + dt * k3))
    return half * (half * (state + dt / 6 * k1) + dt / 3 * (k2 + k3)) + dt / 6 * k4


def heun(slope: Callable[[jax.Array, float], jax.Array], state: jax.Array, dt: float) -> jax.Array:
    """One step of ``dt``; ``slope`` is told how far into the step it is.

    The mean of two Euler steps: what bounds those (a diffused field's extremes, a sign) bounds this.
    """
    first = slope(state, 0.0)
    return state + dt / 2 * (first + slope(state + dt * first, dt))


def longer_steps(dt: float, steps: int, factor: int) -> tuple[float, int]:
    """(dt, steps) that span the same time with steps up to ``factor`` times as long."""
    longer = max(times for times in range(1, factor + 1) if steps % times == 0)
    return dt * longer, steps // longer


def march(step: Callable[[S], S], states: S, steps: int) -> S:
    """``steps`` steps of every trajectory: leaves (N, ...) -> same."""

    def one(state: S) -> S:
        moved: S = jax.lax.fori_loop(0, steps, lambda _, now: step(now), state)
        return moved

    moved: S = jax.vmap(one)(states)
    return moved
