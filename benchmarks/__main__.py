"""``python -m benchmarks --list``, ``python -m benchmarks NAME [--quick] `` and what else a benchmark takes (--help).

Prints a table and, as its last line, one JSON object. Exit status: 0 every floor is met, 1 one is not or the
benchmark broke, 2 wrong usage. A full run's JSON is written to ``results/NAME.json``; one of so many (--count, --jobs)
is no full run.
"""

from __future__ import annotations

import argparse
import ast
import json
import sys
from collections.abc import Callable
from functools import partial
from importlib import import_module
from inspect import signature
from pathlib import Path

from benchmarks.verdict import BrokenError, Figure, Verdict

HERE = Path(__file__).parent
BENCHMARKS = (
    "accounts",
    "apebench",
    "atlas_hw",
    "atlas_read",
    "atlas_reference",
    "atlas_search",
    "baselines",
    "beside",
    "break_even",
    "calibration",
    "chaos",
    "chaos_everysec",
    "conservation",
    "consumer",
    "demo",
    "forward",
    "fuzz_messages",
    "gpu",
    "heartbeat",
    "histories",
    "hostile_files",
    "import_time",
    "kill_stack",
    "latency",
    "samples",
    "scale_out",
    "serving",
    "simulators",
    "size",
    "skill_all",
    "skill_reference",
    "soak",
    "starter",
    "train_step",
)
RESULTS = HERE / "results"
OPTIONS = ("cells", "count", "cpu_s", "data", "jobs", "rates", "seed", "seeds", "steps")


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description="Measure, print a verdict.")
    parser.add_argument("name", nargs="?", choices=BENCHMARKS, help="which benchmark")
    parser.add_argument("--quick", action="store_true", help="a smaller run, under a minute; says so in its JSON")
    parser.add_argument("--list", action="store_true", help="name them all")
    parser.add_argument("--count", type=int, help="how many, where the seed makes many")
    parser.add_argument("--jobs", type=int, help="how many, where they are jobs of a stack")
    parser.add_argument("--seed", type=int, help="the first, or only, of what is left to chance")
    parser.add_argument("--cells", type=int, help="how many parts to make that earlier runs have not kept")
    parser.add_argument("--cpu-s", type=float, help="CPU-seconds of training, where it trains")
    parser.add_argument("--data", type=Path, help="an artifacts folder, where it reads the reference task")
    parser.add_argument("--rates", type=int, help="learning rates tried of each, where they are")
    parser.add_argument("--seeds", type=int, help="seeds at the best of them")
    parser.add_argument("--steps", type=int, help="steps of training, where they are counted")
    asked = parser.parse_args(arguments)
    if asked.list:
        for name in BENCHMARKS:
            told = ast.get_docstring(ast.parse((HERE / f"{name}.py").read_text())) or ""
            print(f"{name:<16} {told.splitlines()[0]}")
        return 0
    if asked.name is None:
        parser.error("which one? --list names them")
    measure = import_module(f"benchmarks.{asked.name}").measure
    options = {name: value for name in OPTIONS if (value := getattr(asked, name)) is not None}
    if unknown := options.keys() - signature(measure).parameters:
        parser.error(f"{asked.name} takes no {', '.join(sorted(unknown))}")
    kept = not asked.quick and asked.count is None and asked.jobs is None
    return _run(asked.name, partial(measure, **options), quick=asked.quick, kept=kept)


def _run(name: str, measure: Callable[..., dict[str, Figure]], *, quick: bool, kept: bool) -> int:
    verdict = Verdict(name, quick=quick)
    try:
        verdict.figures = measure(quick=quick)
    except BrokenError as broken:
        verdict.error = str(broken)
    print(verdict.table())
    if kept and verdict.error is None:
        RESULTS.mkdir(exist_ok=True)
        (RESULTS / f"{name}.json").write_text(json.dumps(verdict.as_json(), indent=2) + "\n")
    print(json.dumps(verdict.as_json()), flush=True)
    return 0 if verdict.ok else 1


if __name__ == "__main__":
    sys.exit(main())
