"""How long calls take beside each other, what they compute, and what this machine could at most."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from nvp_agentkit.training.pacing import Pacer

MATMUL_SIDE, MATMUL_ROUNDS = 2048, 7


class Timed(NamedTuple):
    """Medians of one call, milliseconds; ``cpu_ms`` of all threads of this process."""

    p50_ms: float
    cpu_ms: float


def side_by_side(calls: Mapping[str, Callable[[], object]], rounds: int) -> dict[str, Timed]:
    """Each of ``calls`` once a round, so that what else the machine does falls on all; the first round warms."""
    seen: dict[str, list[tuple[float, float]]] = {name: [] for name in calls}
    for _ in range(rounds + 1):
        for name, call in calls.items():
            wall, cpu = time.perf_counter(), time.process_time()
            finish(call())
            seen[name].append((time.perf_counter() - wall, time.process_time() - cpu))
    return {name: Timed(*(1000 * np.median(times[1:], 0))) for name, times in seen.items()}


def gflop(program: Any, *arguments: Any) -> float:
    """What XLA counts in a jitted ``program`` before it optimises."""
    return float(program.lower(*arguments).cost_analysis()["flops"]) / 1e9


def roofline_gflop_s(
    dtype: Any = jnp.float32, *, side: int = MATMUL_SIDE, clock: Callable[[], float] = time.perf_counter
) -> float:
    """The best of some matrix products: no network of dense arithmetic is faster than that here.

    By ``clock``: seconds of the wall, or CPU-seconds, which what else the machine does disturbs less.
    """
    factor = jnp.ones((side, side), dtype)
    product = jax.jit(lambda one, other: one @ other)
    finish(product(factor, factor))
    took = []
    for _ in range(MATMUL_ROUNDS):
        began = clock()
        finish(product(factor, factor))
        took.append(clock() - began)
    return 2 * side**3 / min(took) / 1e9


def finish(result: object) -> None:
    """Wait until ``result`` is there."""
    jax.block_until_ready(result)  # type: ignore[no-untyped-call]


class CpuPacer(Pacer):
    """An allowance of this process's CPU-seconds, from now on."""

    def __init__(self, limit_s: float) -> None:
        self._limit_s = limit_s
        self._began = time.process_time()

    @property
    def used_s(self) -> float:
        return time.process_time() - self._began

    def may_continue(self, step: int) -> bool:
        return self.used_s < self._limit_s

    def fraction_used(self, step: int) -> float:
        return min(self.used_s / self._limit_s, 1.0)
