"""Forecasts a second of the inference worker, beside a bare batched loop in the same layout of processes.

Both are a process that talks to the stores and a compute child with the default network, untrained; each is asked about
fields that nobody has asked about, all at once, in turns. Ours reserves and settles joules, holds leases, records each
forecast, and would survive what may happen; the loop (`bare_worker`) does none of that.
"""

from __future__ import annotations

import asyncio
import statistics

from benchmarks.bare_worker import SUFFIX
from benchmarks.served import bench
from benchmarks.verdict import Figure

SIDE, QUICK_SIDE = 256, 64
QUESTIONS, QUICK_QUESTIONS, ROUNDS = 120, 40, 5
OURS = "nvp_agentkit.workers"


def measure(*, quick: bool) -> dict[str, Figure]:
    """Quick: fields of 64x64 cells, fewer of them, one round, held to nothing."""
    side, questions, rounds = (QUICK_SIDE, QUICK_QUESTIONS, 1) if quick else (SIDE, QUESTIONS, ROUNDS)
    ours, bare = asyncio.run(_measure(side, questions, rounds))
    ratio = statistics.median(a / b for a, b in zip(ours, bare, strict=True))
    floor, goal = (None, None) if quick else (0.8, 0.95)
    return {
        "ours": Figure(round(statistics.median(ours), 2), "Hz", higher_is_better=True),
        "bare": Figure(round(statistics.median(bare), 2), "Hz", higher_is_better=True),
        "ours_over_bare": Figure(round(ratio, 3), "times", floor, goal, higher_is_better=True),
    }


async def _measure(side: int, questions: int, rounds: int) -> tuple[list[float], list[float]]:
    ours: list[float] = []
    bare: list[float] = []
    async with bench(side) as here:
        weights = str((await here.system.artifacts.local_path(here.model.weights)).resolve())
        loop = ("benchmarks.bare_worker", here.model.model_id, weights)
        async with here.worker(OURS, "inference", instance="ours"), here.worker(*loop, instance="bare"):
            for turn in range(rounds + 1):  # the first finds what is not warm yet
                ours.append(await here.hz("predict", await here.questions(questions, 2 * turn)))
                bare.append(await here.hz(SUFFIX, await here.questions(questions, 2 * turn + 1)))
    return ours[1:], bare[1:]
