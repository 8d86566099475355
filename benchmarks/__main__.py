"""``python -m benchmarks --list``, ``python -m benchmarks NAME [--quick]``.

Prints a table and, as its last line, one JSON object. Exit status: 0 every floor is met, 1 one is not or the
benchmark broke, 2 wrong usage. A full run's JSON is written to ``results/NAME.json``.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from types import ModuleType

from benchmarks import (
    atlas_hw,
    atlas_read,
    atlas_search,
    baselines,
    demo,
    hostile_files,
    import_time,
    kill_stack,
    simulators,
)
from benchmarks.verdict import BrokenError, Verdict

BENCHMARKS: dict[str, ModuleType] = {
    "atlas_hw": atlas_hw, "atlas_read": atlas_read, "atlas_search": atlas_search, "baselines": baselines,
    "demo": demo, "hostile_files": hostile_files, "import_time": import_time, "kill_stack": kill_stack,
    "simulators": simulators,
}  # fmt: skip
RESULTS = Path(__file__).parent / "results"


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description="Measure, print a verdict.")
    parser.add_argument("name", nargs="?", choices=sorted(BENCHMARKS), help="which benchmark")
    parser.add_argument("--quick", action="store_true", help="a smaller run, under a minute; says so in its JSON")
    parser.add_argument("--list", action="store_true", help="name them all")
    asked = parser.parse_args(arguments)
    if asked.list:
        for name, benchmark in sorted(BENCHMARKS.items()):
            print(f"{name:<14} {(benchmark.__doc__ or '').splitlines()[0]}")
        return 0
    if asked.name is None:
        parser.error("which one? --list names them")
    return _run(asked.name, quick=asked.quick)


def _run(name: str, *, quick: bool) -> int:
    verdict = Verdict(name, quick=quick)
    try:
        verdict.figures = BENCHMARKS[name].measure(quick=quick)
    except BrokenError as broken:
        verdict.error = str(broken)
    print(verdict.table())
    if not quick and verdict.error is None:
        RESULTS.mkdir(exist_ok=True)
        (RESULTS / f"{name}.json").write_text(json.dumps(verdict.as_json(), indent=2) + "\n")
    print(json.dumps(verdict.as_json()), flush=True)
    return 0 if verdict.ok else 1


if __name__ == "__main__":
    sys.exit(main())
