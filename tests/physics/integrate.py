"""A slope followed for a while, and how its error shrinks with the step."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import numpy.typing as npt

from nvp_agentkit.domains.stepping import rk4

Step = Callable[[jax.Array, Any], jax.Array]


def follow(step: Step, state: npt.ArrayLike, time: float, *, steps: list[int]) -> list[npt.NDArray[Any]]:
    """``state`` after ``time``, once by each number of steps."""
    return [np.asarray(_run(step, jnp.asarray(state), jnp.float32(time), jnp.int32(count))) for count in steps]


@partial(jax.jit, static_argnames="step")  # one program for all times and steps
def _run(step: Step, state: jax.Array, time: jax.Array, count: jax.Array) -> jax.Array:
    return jax.lax.fori_loop(0, count, lambda _, now: step(now, time / count), state)


def by_rk4(slope: Callable[[jax.Array], jax.Array]) -> Step:
    return lambda state, dt: rk4(slope, state, dt)


def order(step: Step, state: npt.ArrayLike, time: float, *, steps: int) -> float:
    """Of convergence: log2 of what halving the step divides the error by."""
    coarse, fine, truth = follow(step, state, time, steps=[steps, 2 * steps, 8 * steps])
    return float(np.log2(np.linalg.norm(coarse - truth) / np.linalg.norm(fine - truth)))
