"""The starter model: skill without any training, by domain, and what beginning from it is worth to a training.

Domains at 64x64, trajectories that its training has not seen, each window with units from its own three frames; two
variants are of equations or beginnings that it has not seen either. The trivial forecasters have learnt from eight
trajectories of the very domain. `benchmarks.starter_weights` makes the weights anew.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import NamedTuple

import numpy as np

from benchmarks.cells import Numbers, cell
from benchmarks.one_core import pin
from benchmarks.verdict import Figure
from nvp_agentkit.domains import DOMAINS
from nvp_agentkit.fields.forecasters import rollout, trivial_forecasters
from nvp_agentkit.fields.metrics import skill, vrmse
from nvp_agentkit.fields.scores import coverage
from nvp_agentkit.fields.sequence import Floats
from nvp_agentkit.model import ModelBundle, NetworkForecaster, intervals, predict_next
from nvp_agentkit.model.starter import starter, starter_weights
from nvp_agentkit.training import MemberConfig, MemberTrainer, Parent, StepPacer, error_correlation
from nvp_agentkit.training.examples import all_windows
from nvp_agentkit.training.members import network_for

KNOWN: tuple[tuple[str, str | None], ...] = tuple((name, None) for name in DOMAINS)
UNKNOWN = (("turbulence_2d", "forced"), ("magnetohydrodynamics", "random"))
SHOWN = 3
TUNED = "plasma_physics"
SEEDS = (0, 1)  # of two members, whose errors are compared


class Plan(NamedTuple):
    """How much of everything; by default what is committed."""

    cases: tuple[tuple[str, str | None], ...] = (
        *KNOWN,
        ("turbulence_2d", "forced"),
        ("magnetohydrodynamics", "random"),
    )
    size: int = 64
    leads: tuple[int, ...] = (1, 8)
    trajectories: tuple[int, int] = (8, 4)  # for the trivial forecasters to learn from, to judge
    frames: int = 23
    steps: tuple[int, ...] = (50, 150, 450)


QUICK = Plan((("turbulence_2d", None),), 32, (1,), (2, 1), 9, (2,))


def measure(*, quick: bool) -> dict[str, Figure]:
    """Quick: one simulator at 32x32 one step ahead, and two steps of training; held to nothing."""
    pin()
    plan = QUICK if quick else Plan()
    settings, figures = (plan._replace(cases=(), steps=()), Parent.of(starter_weights()).model_id), {}
    for domain, variant in plan.cases:
        name = domain if variant is None else f"{domain}:{variant}"
        numbers = cell("starter", name, settings, partial(_judged, domain, variant, plan))
        for one, value in numbers.items():
            unit = "share" if one.startswith(("skill", "coverage")) else "VRMSE"
            figures[f"{name}/{one}"] = Figure(value, unit, higher_is_better=unit == "share")
    known = [domain for domain, variant in plan.cases if variant is None]
    for lead in plan.leads:
        values = [figures[f"{domain}/skill_{lead}"].value for domain in known]
        figures[f"median_skill_{lead}"] = Figure(float(np.median(np.array(values))), "share", higher_is_better=True)
    for steps in plan.steps:
        numbers = cell("starter", f"tuned-{steps}", settings, partial(_tuned, steps, plan))
        for one, value in numbers.items():
            figures[f"after_{steps}/{one}"] = Figure(value, "r" if one.startswith("alike") else "VRMSE")
    return figures


def _judged(domain: str, variant: str | None, plan: Plan) -> Numbers:
    return dict(_scores(domain, variant, plan))


def _scores(domain: str, variant: str | None, plan: Plan) -> Iterator[tuple[str, float]]:
    simulate, (learn, judge) = DOMAINS[domain].simulate, plan.trajectories
    train = simulate(learn, plan.frames, plan.size, 2, variant=variant)
    test = simulate(judge, plan.frames, plan.size, 3, variant=variant)
    reach, furthest = SHOWN + max(plan.leads), max(plan.leads)
    cut = [test.values[:, start : start + reach] for start in range(0, test.frames - reach + 1, 4)]
    windows = np.concatenate(cut)
    shown, came = windows[:, :SHOWN], windows[:, SHOWN:]
    bundles = [starter(one, test.meta) for one in shown]
    told = [rollout(NetworkForecaster(bundle), one[None], furthest) for bundle, one in zip(bundles, shown, strict=True)]
    mean = np.concatenate([one[0] for one in told])
    trivial = {one.name: rollout(one, shown, furthest)[0] for one in trivial_forecasters(train)}
    for lead in plan.leads:
        at = lead - 1
        best = min(vrmse(by[:, at], came[:, at]) for by in trivial.values())
        error = vrmse(mean[:, at], came[:, at])
        yield f"skill_{lead}", skill(error, best)
        yield f"vrmse_{lead}", error
        yield f"best_trivial_{lead}", best
        yield f"persistence_{lead}", vrmse(trivial["persistence"][:, at], came[:, at])
    inside = [
        intervals(mean[:, 0], log_var[:, 0], bundle.calibration)[0.9]
        for bundle, (mean, log_var) in zip(bundles, told, strict=True)
    ]
    low, high = (np.concatenate(side) for side in zip(*inside, strict=True))
    yield "coverage_90_1", coverage(low, high, came[:, 0])


def _tuned(steps: int, plan: Plan) -> Numbers:
    """Of two members trained so long from the starter, and of two from fresh weights."""
    simulate, (learn, judge) = DOMAINS[TUNED].simulate, plan.trajectories
    train, validation, test = (
        simulate(count, plan.frames, plan.size, seed) for count, seed in ((learn, 4), (judge, 5), (judge, 6))
    )
    frames, _, came, _ = all_windows(test, 2)
    network, found = network_for(train.meta, masked=False), {}
    for name, parent in (("fresh", None), ("from_starter", Parent.of(starter_weights()))):
        members = [
            MemberTrainer(MemberConfig(network, seed=seed)).fit(train, validation, StepPacer(steps), parent=parent)
            for seed in SEEDS
        ]
        found[f"vrmse_{name}"] = float(np.mean([_error(one.bundle, frames, came) for one in members]))
        found[f"alike_{name}"] = error_correlation([one.forecasts for one in members])[0, 1]
    return found


def _error(bundle: ModelBundle, frames: Floats, came: Floats) -> float:
    return vrmse(predict_next(bundle, frames)[0], came)
