"""Skill over the best trivial forecaster in every simulator, one step and ten ahead, on held-out trajectories.

One network in each simulator has the whole allowance; of ensembles tells `calibration`, of the rest `every_domain`.
``--cpu-s`` gives another allowance, which the figures tell.
"""

from __future__ import annotations

from benchmarks.every_domain import FULL_CPU_S, measured, medians
from benchmarks.verdict import Figure

LEADS = (1, 10)
FLOOR, GOAL = 0.5, 0.8  # median of skill, one step ahead


def measure(*, quick: bool, cpu_s: float | None = None) -> dict[str, Figure]:
    """Quick: one simulator at 32x32, held to nothing."""
    plan, cells = measured(quick=quick, cpu_s=cpu_s, members=1)
    figures = {"training": Figure(plan.cpu_s, "CPU-s", goal=FULL_CPU_S, higher_is_better=True)}
    for lead in LEADS:
        floor, goal = (FLOOR, GOAL) if lead == 1 and not quick else (None, None)
        median = medians(cells, f"skill_{lead}")
        figures[f"median_skill_{lead}"] = Figure(median, "share", floor, goal, higher_is_better=True)
    for domain, numbers in cells.items():
        for lead in LEADS:
            least = None if quick else 0.0
            figures[f"{domain}/skill_{lead}"] = Figure(
                numbers[f"skill_{lead}"], "share", floor=least, higher_is_better=True
            )
            for name in ("vrmse", "best_trivial", "persistence"):
                figures[f"{domain}/{name}_{lead}"] = Figure(numbers[f"{name}_{lead}"], "VRMSE")
        figures[f"{domain}/steps"] = Figure(numbers["steps"], "steps")
    return figures
