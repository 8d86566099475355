"""Forecasts a second of two inference workers, over those of one: each with its compute child on a core of its own.

Where there are fewer than four cores, stores and load run on the same ones, and less is expected. Fields of 256x256
that nobody has asked about; the default network, untrained. One, two, one, two: ratios are of neighbours.
"""

from __future__ import annotations

import asyncio
import os
import statistics
from contextlib import AsyncExitStack

from benchmarks.served import Bench, bench
from benchmarks.serving import OURS
from benchmarks.verdict import BrokenError, Figure

SIDE, QUICK_SIDE = 256, 64
QUESTIONS, QUICK_QUESTIONS, ROUNDS = 80, 40, 3
ENOUGH_CORES = 4


def measure(*, quick: bool) -> dict[str, Figure]:
    """Quick: fields of 64x64 cells, fewer of them, one round, held to nothing.

    Raises:
        BrokenError: there is one core.
    """
    cores = sorted(os.sched_getaffinity(0))
    if len(cores) < 2:
        raise BrokenError("two workers need two cores")
    side, questions, rounds = (QUICK_SIDE, QUICK_QUESTIONS, 1) if quick else (SIDE, QUESTIONS, ROUNDS)
    one, two = asyncio.run(_measure(side, questions, rounds, cores))
    ratio = statistics.median(b / a for a, b in zip(one, two, strict=True))
    least = 1.8 if len(cores) >= ENOUGH_CORES else 1.4
    return {
        "one_worker": Figure(round(statistics.median(one), 2), "Hz", higher_is_better=True),
        "two_workers": Figure(round(statistics.median(two), 2), "Hz", higher_is_better=True),
        "two_over_one": Figure(round(ratio, 3), "times", None if quick else least, 1.6, higher_is_better=True),
    }


async def _measure(side: int, questions: int, rounds: int, cores: list[int]) -> tuple[list[float], list[float]]:
    one: list[float] = []
    two: list[float] = []
    async with bench(side) as here:
        for turn in range(rounds):
            one.append(await _hz(here, questions, 2 * turn, cores[:1]))
            two.append(await _hz(here, questions, 2 * turn + 1, cores[:2]))
    return one, two


async def _hz(here: Bench, questions: int, first: int, cores: list[int]) -> float:
    """With a worker on each of ``cores``."""
    async with AsyncExitStack() as running:
        for core in cores:
            await running.enter_async_context(here.worker(OURS, "inference", instance=f"core-{core}", cores=[core]))
        await here.hz("predict", await here.questions(4 * len(cores), 1000 + first))
        return await here.hz("predict", await here.questions(questions, first))
