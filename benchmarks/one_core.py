"""Computing on one core, so that CPU-seconds are seconds and a step's time is its own."""

from __future__ import annotations

import os

ONE_THREAD = "--xla_cpu_multi_thread_eigen=false"


def pin() -> None:
    """Keep this process to the first core it may use, before its first computation: XLA's threads begin with that."""
    os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    os.environ["XLA_FLAGS"] = f"{os.environ.get('XLA_FLAGS', '')} {ONE_THREAD}".strip()
