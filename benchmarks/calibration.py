"""Whether intervals hold what they promise, in every simulator: coverage by lead time and activity, width, spread.

Of ensembles of three (`every_domain`): intervals and skill are the champion's, which has 1.5 of 3.5 parts of the
allowance; the quorum's spread is that of all three. Beside 96 trajectories to learn from as many are held out as
`fields.split` would: a share of cells is a mean over trajectories, which in heat differ by 10 points from one to the
next five steps ahead, so that of four it would be known to 5.
"""

from __future__ import annotations

from benchmarks.every_domain import FULL_CPU_S, LEADS, measured
from benchmarks.verdict import Figure
from nvp_agentkit.fields.metrics import skill

LEVELS = (50, 90, 95)
POINTS_OFF, POINTS_OFF_GOAL, DECILE_OFF_GOAL = 4.0, 2.0, 5.0
SPREAD_OFF, SPREAD_OFF_GOAL = 0.15, 0.05
HELD_OUT = 20  # trajectories to calibrate on, and to judge: 15% each, beside the 96 to learn from


def measure(*, quick: bool, cpu_s: float | None = None) -> dict[str, Figure]:
    """Quick: one simulator at 32x32, held to nothing."""
    plan, cells = measured(quick=quick, cpu_s=cpu_s, members=2 if quick else 3, held_out=HELD_OUT)
    figures = {
        "training": Figure(plan.cpu_s, "CPU-s", goal=FULL_CPU_S, higher_is_better=True),
        "held_out": Figure(plan.trajectories[-1], "trajectories", higher_is_better=True),
    }
    for domain, numbers in cells.items():
        covered = {(lead, level): 100 * numbers[f"coverage_{level}_{lead}"] for lead in LEADS for level in LEVELS}
        off = max(abs(value - level) for (_, level), value in covered.items())
        deciles = [100 * numbers[f"decile_{place}"] for place in range(1, 11)]
        spread = numbers["ensemble_spread_skill"]
        bounds = (None, None) if quick else (POINTS_OFF, POINTS_OFF_GOAL)
        figures[f"{domain}/coverage_off"] = Figure(off, "points", *bounds)
        bounds = (None, None) if quick else (SPREAD_OFF, SPREAD_OFF_GOAL)
        figures[f"{domain}/spread_skill_off"] = Figure(abs(spread - 1), "ratio", *bounds)
        furthest = max(abs(value - 90) for value in deciles)
        figures[f"{domain}/decile_off"] = Figure(furthest, "points", goal=DECILE_OFF_GOAL)
        figures[f"{domain}/ensemble_spread_skill"] = Figure(spread, "ratio")
        figures[f"{domain}/ensemble_coverage_90"] = Figure(100 * numbers["ensemble_coverage_90"], "%")
        figures[f"{domain}/skill_1"] = Figure(numbers["skill_1"], "share", higher_is_better=True)
        figures[f"{domain}/ensemble_skill_1"] = Figure(
            skill(numbers["ensemble_vrmse"], numbers["best_trivial_1"]), "share", higher_is_better=True
        )
        figures |= {
            f"{domain}/coverage_{level}/lead_{lead}": Figure(value, "%") for (lead, level), value in covered.items()
        }
        for lead in LEADS:
            figures[f"{domain}/width_90/lead_{lead}"] = Figure(numbers[f"width_90_{lead}"], "std")
            figures[f"{domain}/spread_skill/lead_{lead}"] = Figure(numbers[f"spread_skill_{lead}"], "ratio")
        figures |= {f"{domain}/coverage_90/decile_{at + 1}": Figure(value, "%") for at, value in enumerate(deciles)}
    return figures
