"""Processes from outside: what one started, what memory that takes, what still works for a data folder."""

from __future__ import annotations

import os
import threading
from pathlib import Path
from typing import Self

from benchmarks.verdict import ROOT
from nvp_agentkit.embedded import lock

PROC = Path("/proc")
KINDS = {"valkey-server": "valkey", "ArcadeDBServer": "arcadedb", "compute.child": "compute",
         "nvp_agentkit.workers": "front"}  # fmt: skip


def environment(**more: str) -> dict[str, str]:
    """For a process that is measured: this checkout, and no settings but those given."""
    rest = {name: value for name, value in os.environ.items() if not name.startswith("NVP_")}
    paths = os.pathsep.join(filter(None, (str(ROOT), rest.get("PYTHONPATH"))))
    return rest | {"PYTHONPATH": paths, "PYTHONUNBUFFERED": "1"} | more


def tethered(folder: Path) -> dict[int, str]:
    """The processes that carry ``folder`` as that of their stack, and what each is; the supervisor is none of them."""
    found = {}
    for pid in lock.left_over(folder):
        try:
            said = (PROC / str(pid) / "cmdline").read_text(errors="replace")
        except OSError:
            continue
        found[pid] = next((kind for sign, kind in KINDS.items() if sign in said), "other")
    return found


class PeakPss:
    """Samples the tree of ``pid`` while inside; `peak_gb` is the most that all of it held at one moment."""

    def __init__(self, pid: int, *, every_s: float = 0.5) -> None:
        self._pid = pid
        self._every_s = every_s
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._sample, daemon=True)
        self._peak_kb = 0

    @property
    def peak_gb(self) -> float | None:
        """None where the kernel does not tell (no /proc)."""
        return self._peak_kb / 2**20 or None

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()

    def _sample(self) -> None:
        while True:
            self._peak_kb = max(self._peak_kb, sum(pss_kb(pid) for pid in tree(self._pid)))
            if self._over.wait(self._every_s):
                return


def tree(pid: int) -> set[int]:
    """``pid`` and all its descendants that run now."""
    children: dict[int, list[int]] = {}
    for entry in PROC.glob("[0-9]*/stat"):
        try:  # the name in parentheses may hold anything, a parenthesis too
            parent = int(entry.read_text().rpartition(")")[2].split()[1])
        except OSError:
            continue
        children.setdefault(parent, []).append(int(entry.parent.name))
    found, waiting = set(), [pid]
    while waiting:
        found.add(one := waiting.pop())
        waiting += children.get(one, [])
    return found


def pss_kb(pid: int) -> int:
    """0 for a process that has just ended."""
    try:
        lines = (PROC / str(pid) / "smaps_rollup").read_text().splitlines()
    except OSError:
        return 0
    return next((int(line.split()[1]) for line in lines if line.startswith("Pss:")), 0)


def available_kb() -> int:
    """What the machine could still give without swapping; more than it has where the kernel does not tell."""
    try:
        lines = (PROC / "meminfo").read_text().splitlines()
    except OSError:
        return 2**62
    return next(int(line.split()[1]) for line in lines if line.startswith("MemAvailable:"))
