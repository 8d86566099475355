"""Computing on one core, so that CPU-seconds are seconds and a step's time is its own."""

from __future__ import annotations

import os
import sys

from benchmarks.verdict import BrokenError

ONE_THREAD = "--xla_cpu_multi_thread_eigen=false"


def pin() -> int:
    """Keep this process, and JAX not yet loaded, to the first core it may use; returns that core."""
    if "jax" in sys.modules:
        raise BrokenError("JAX was loaded before this process was pinned to one core; run this benchmark by itself")
    core = min(os.sched_getaffinity(0))
    os.sched_setaffinity(0, {core})
    os.environ["XLA_FLAGS"] = f"{os.environ.get('XLA_FLAGS', '')} {ONE_THREAD}".strip()
    return core
