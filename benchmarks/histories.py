"""Histories of consumers and ledger under fire, by a seed: what any of them breaks is shrunk and told.

The product's own code runs on a virtual clock against a modelled store (`benchmarks.simulator`). ``--count 100000
--seed 0`` plays the seeds 0 to 99,999; ``--count 1 --seed K`` plays one again and tells it call by call. Parts of a
thousand are kept until the code changes, so a run that was stopped goes on; ``--cells N`` plays N parts more at most.
"""

from __future__ import annotations

import gc
import hashlib
import os
import time
from concurrent.futures import ProcessPoolExecutor
from functools import cache
from multiprocessing import get_context
from pathlib import Path

from benchmarks.cells import Numbers, cell, place
from benchmarks.simulator.history import Stage
from benchmarks.simulator.plan import Plan
from benchmarks.simulator.shrink import shrink
from benchmarks.verdict import ROOT, BrokenError, Figure

COUNT, QUICK, PART = 100_000, 1_000, 1_000
SHOWN = 5  # of those that went wrong; the others only count
PLAYED = ("nvp_agentkit", "workers", "benchmarks/simulator")  # whose code decides a history
CPU_S = "cpu_s"


def measure(*, quick: bool, count: int | None = None, seed: int = 0, cells: int | None = None) -> dict[str, Figure]:
    """A hundred thousand histories; ``quick`` is a thousand."""
    end = seed + (count or (QUICK if quick else COUNT))
    parts = [range(first, min(first + PART, end)) for first in range(seed, end, PART)]
    found = {parts[0]: play(parts[0])} if len(parts) == 1 else _kept(parts, cells)
    if not found:
        raise BrokenError("nothing was played; let --cells be above 0")
    played, cpu_s = sum(map(len, found)), sum(numbers.pop(CPU_S) for numbers in found.values())
    wrong = [int(name) for numbers in found.values() for name in numbers]
    _tell(wrong)
    if count == 1 and not wrong:
        with Stage().open() as stage:
            stage.play(Plan.of(seed), tell=print)
    return {
        "wrong": Figure(len(wrong), "histories", floor=0),
        "at_most_95": Figure(None if wrong else 100 * 3 / played, "%"),  # none of n: the rule of three
        "histories": Figure(played, "histories", None if quick else COUNT, higher_is_better=True),
        "per_cpu_second": Figure(round(played / cpu_s, 1), "1/s", higher_is_better=True),
    }


def _kept(parts: list[range], cells: int | None) -> dict[range, Numbers]:
    """What is known of each part, once ``cells`` of those that earlier runs have not kept are played on every core."""
    missing = [part for part in parts if not place("histories", _name(part), _code(), ours=False).exists()]
    found: dict[range, Numbers] = {}
    with ProcessPoolExecutor(len(os.sched_getaffinity(0)), mp_context=get_context("spawn")) as pool:
        for part, numbers in zip(missing, pool.map(play, missing[:cells]), strict=False):
            found[part] = cell("histories", _name(part), _code(), numbers.copy, ours=False)
    unplayed = missing[:0] if cells is None else missing[cells:]
    return {
        part: found.get(part) or cell("histories", _name(part), _code(), dict, ours=False)
        for part in parts
        if part not in unplayed
    }


def _name(part: range) -> str:
    return f"{part.start}-{part.stop}"


@cache
def _code() -> str:
    """The digest of all that decides a history."""
    files = [path for folder in PLAYED for path in sorted(Path(ROOT, folder).rglob("*"))]
    return hashlib.sha256(b"".join(path.read_bytes() for path in files if path.suffix in (".py", ".lua"))).hexdigest()


def play(seeds: range) -> Numbers:
    """The histories of ``seeds``: a number for each that went wrong, and the CPU-seconds of all."""
    began = time.process_time()
    gc.disable()  # a history leaves cycles, but small ones: all at once is cheaper
    try:
        with Stage().open() as stage:
            wrong = {str(seed): 1.0 for seed in seeds if stage.play(Plan.of(seed))}
    finally:
        gc.enable()
        gc.collect()
    return wrong | {CPU_S: time.process_time() - began}


def _tell(wrong: list[int]) -> None:
    with Stage().open() as stage:
        for seed in wrong[:SHOWN]:
            found, least = stage.play(Plan.of(seed)), shrink(Plan.of(seed), stage.play)
            print(f"seed {seed}: {'; '.join(found)}\nthe least that goes wrong of it: {least}")
            stage.play(least, tell=print)
            print(f"again: python -m benchmarks histories --count 1 --seed {seed}")
