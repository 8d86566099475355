"""Histories of consumers and ledger under fire, by a seed: what any of them breaks is shrunk and told.

The product's own code runs on a virtual clock against a modelled store (`benchmarks.simulator`). ``--count 100000
--seed 0`` plays the seeds 0 to 99,999; ``--count 1 --seed K`` plays one again and tells it call by call.
"""

from __future__ import annotations

import gc
import os
import time
from collections.abc import Iterable
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context

from benchmarks.simulator.history import Stage
from benchmarks.simulator.plan import Plan
from benchmarks.simulator.shrink import shrink
from benchmarks.verdict import Figure

COUNT, QUICK, AT_ONCE = 100_000, 2_000, 500
SHOWN = 5  # of those that went wrong; the others only count
Wrong = dict[int, list[str]]


def measure(*, quick: bool, count: int | None = None, seed: int = 0) -> dict[str, Figure]:
    """A hundred thousand histories; ``quick`` is two thousand."""
    count = count or (QUICK if quick else COUNT)
    began = time.perf_counter()
    wrong = _play_all(range(seed, seed + count))
    seconds = time.perf_counter() - began
    _tell(wrong)
    if count == 1 and not wrong:
        with Stage().open() as stage:
            stage.play(Plan.of(seed), tell=print)
    return {
        "wrong": Figure(len(wrong), "histories", floor=0),
        "at_most_95": Figure(None if wrong else 100 * 3 / count, "%"),  # none of n: the rule of three
        "histories": Figure(count, "histories"),
        "per_second": Figure(round(count / seconds, 1), "1/s"),
    }


def _play_all(seeds: range) -> Wrong:
    """On every core there is."""
    if len(seeds) <= AT_ONCE:
        return play(seeds)
    wrong: Wrong = {}
    with ProcessPoolExecutor(os.cpu_count(), mp_context=get_context("spawn")) as pool:
        for some in pool.map(play, [seeds[first : first + AT_ONCE] for first in range(0, len(seeds), AT_ONCE)]):
            wrong |= some
    return wrong


def play(seeds: Iterable[int]) -> Wrong:
    """The histories of ``seeds``: seed -> what went wrong, of those where anything did."""
    wrong: Wrong = {}
    gc.disable()  # a history leaves cycles, but small ones: all at once is cheaper
    try:
        with Stage().open() as stage:
            for seed in seeds:
                if found := stage.play(Plan.of(seed)):
                    wrong[seed] = found
    finally:
        gc.enable()
        gc.collect()
    return wrong


def _tell(wrong: Wrong) -> None:
    with Stage().open() as stage:
        for seed, found in list(wrong.items())[:SHOWN]:
            least = shrink(Plan.of(seed), stage.play)
            print(f"seed {seed}: {'; '.join(found)}\nthe least that goes wrong of it: {least}")
            stage.play(least, tell=print)
            print(f"again: python -m benchmarks histories --count 1 --seed {seed}")
