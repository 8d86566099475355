"""Networks trained in every simulator and judged on trajectories they have not seen: for `skill_all` and `calibration`.

Frames are as far apart as makes persistence err by 0.30 to 0.40. The allowance is for all members of an ensemble, as
`nvp train` spends it: of three the champion, which answers `predict`, gets 1.5 of 3.5 parts. What is compiled is not
counted.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import replace
from functools import partial
from typing import Any, NamedTuple

import numpy as np

from benchmarks.cells import Numbers, cell
from benchmarks.clock import CpuPacer
from benchmarks.one_core import pin
from benchmarks.verdict import BrokenError
from nvp_agentkit.domains import (
    DOMAINS,
    hasegawa_wakatani,
    heat_diffusion,
    magnetohydrodynamics,
    reaction_diffusion,
    shallow_water,
    shear_flow,
    turbulence_2d,
)
from nvp_agentkit.ensemble import Answer, calibrate_rule
from nvp_agentkit.ensemble.agreement import combine
from nvp_agentkit.errors import InvalidInput
from nvp_agentkit.fields.forecasters import rollout, trivial_forecasters
from nvp_agentkit.fields.metrics import skill, vrmse
from nvp_agentkit.fields.scores import coverage, spread_skill, width
from nvp_agentkit.fields.sequence import Floats, SequenceSet
from nvp_agentkit.model import NetworkForecaster, intervals
from nvp_agentkit.model.bundle import NORMAL_QUANTILE
from nvp_agentkit.training import StepPacer, TrainedModel, ensemble, train_members
from nvp_agentkit.training.evaluate import coverage_by_activity

SPACING = (0.30, 0.40)
SPACING_TRIES = 6
DOZEN = 12
LEADS = (1, 2, 5, 10)
PARAMETERS: dict[str, Callable[[int], Any]] = {
    "plasma_physics": hasegawa_wakatani.Parameters.for_size,
    "turbulence_2d": turbulence_2d.decaying,
    "shear_flow": shear_flow.default,
    "magnetohydrodynamics": magnetohydrodynamics.Plasma.for_size,
    "shallow_water": shallow_water.Layer.for_size,
    "heat_diffusion": heat_diffusion.Furnace.for_size,
    "reaction_diffusion": reaction_diffusion.Reaction.for_size,
}


class Plan(NamedTuple):
    """How much of everything; by default what is committed."""

    cpu_s: float
    domains: tuple[str, ...] = tuple(DOMAINS)
    size: int = 64
    frames: int = 41
    trajectories: tuple[int, int, int] = (96, 8, 4)  # to train on, to choose and calibrate on, to judge
    members: int = 1


QUICK = Plan(3.0, ("turbulence_2d",), 32, 17, (4, 2, 2))
FULL_CPU_S = 300.0


def measured(
    *, quick: bool, cpu_s: float | None, members: int, held_out: int | None = None
) -> tuple[Plan, dict[str, Numbers]]:
    """Numbers of each domain; ``held_out``: trajectories to calibrate on, and as many to judge, else as planned."""
    pin()
    plan = (QUICK if quick else Plan(FULL_CPU_S))._replace(members=members)
    if cpu_s is not None:
        plan = plan._replace(cpu_s=cpu_s)
    if held_out is not None and not quick:
        plan = plan._replace(trajectories=(plan.trajectories[0], held_out, held_out))
    settings = plan._replace(domains=())
    return plan, {name: cell("every_domain", name, settings, partial(judged, name, plan)) for name in plan.domains}


def judged(domain: str, plan: Plan) -> Numbers:
    """Train in ``domain`` and tell how good the forecasts are and how honest their doubt."""
    train, validation, test = _data(domain, plan)
    recipes = ensemble(train, members=plan.members)
    train_members(recipes, train, validation, StepPacer(plan.members))  # compiles
    pacer = CpuPacer(plan.cpu_s)
    trained = train_members(recipes, train, validation, pacer)
    found = {"cpu_s": pacer.used_s, "steps": float(trained[0].steps)}
    shown, came = _windows(test, trained[0].bundle.config.context_frames)
    found |= dict(_scores(trained[0], train, test, shown, came))
    return found if len(trained) == 1 else found | _quorum(trained, validation, shown, came[:, 0])


def _scores(
    trained: TrainedModel, train: SequenceSet, test: SequenceSet, shown: Floats, came: Floats
) -> Iterator[tuple[str, float]]:
    champion = trained.bundle
    mean, log_var = rollout(NetworkForecaster(champion), shown, max(LEADS))
    trivial = {one.name: rollout(one, shown, max(LEADS))[0] for one in trivial_forecasters(train)}
    for lead in LEADS:
        reached = np.isfinite(came[:, lead - 1]).all((1, 2))
        said, doubt, truth, *others = (part[reached, lead - 1] for part in (mean, log_var, came, *trivial.values()))
        best = min(vrmse(told, truth) for told in others)
        error = vrmse(said, truth)
        yield f"persistence_{lead}", vrmse(trivial["persistence"][reached, lead - 1], truth)
        yield f"best_trivial_{lead}", best
        yield f"vrmse_{lead}", error
        yield f"skill_{lead}", skill(error, best)
        yield f"spread_skill_{lead}", spread_skill(said, doubt, truth)
        for level, (low, high) in intervals(said, doubt, champion.calibration, lead).items():
            yield f"coverage_{100 * level:.0f}_{lead}", coverage(low, high, truth)
            if level == 0.9:
                yield f"width_90_{lead}", width(low, high, truth) / float(truth.std())
    for place, inside in enumerate(coverage_by_activity(champion, test)[0.9]):
        yield f"decile_{place + 1}", inside


def _quorum(trained: list[TrainedModel], validation: SequenceSet, shown: Floats, came: Floats) -> Numbers:
    """Of what all members say together under the rule that their validation gives, as `nvp train` makes it."""
    seen, followed = _windows(validation, trained[0].bundle.config.context_frames)
    rule = calibrate_rule(*_told(trained, seen), followed[:, 0])
    means, log_vars = _told(trained, shown)
    answers = [
        combine({str(member): Answer(means[member, at], log_vars[member, at]) for member in range(len(means))}, rule)
        for at in range(len(shown))
    ]
    said, doubt = np.stack([one.mean for one in answers]), np.stack([one.log_var for one in answers])
    far = NORMAL_QUANTILE[0.9] * np.exp(doubt / 2)
    return {
        "ensemble_spread_skill": spread_skill(said, doubt, came),
        "ensemble_coverage_90": coverage(said - far, said + far, came),
        "ensemble_vrmse": vrmse(said, came),
    }


def _told(trained: list[TrainedModel], shown: Floats) -> tuple[Floats, Floats]:
    """Means and log-variances (members, N, H, W)."""
    told = [NetworkForecaster(one.bundle).predict_next(shown) for one in trained]
    return np.stack([mean for mean, _ in told]), np.stack([log_var for _, log_var in told])


def _windows(test: SequenceSet, context: int) -> tuple[Floats, Floats]:
    """Frames shown (N, K, H, W) and those that came (N, leads, H, W), every fourth start; NaN where none did.

    So each lead is judged from first to last of what it reaches, as it was calibrated: flows that decay are harder at
    first, and intervals would seem too narrow where a short lead left out what a long one does not reach.
    """
    beyond = np.full((test.trajectories, max(LEADS) - 1, *test.grid), np.nan, np.float32)
    known, ends = np.concatenate([test.values, beyond], 1), context + max(LEADS)
    values = np.concatenate([known[:, start : start + ends] for start in range(0, test.frames - context, 4)])
    return values[:, :context], values[:, context:]


def _data(domain: str, plan: Plan) -> tuple[SequenceSet, SequenceSet, SequenceSet]:
    chosen = spaced(domain, plan.size, plan.frames)
    train, validation, test = (
        _simulated(domain, count, plan, seed, chosen) for seed, count in zip((1, 2, 3), plan.trajectories, strict=True)
    )
    return train, validation, test


def _simulated(domain: str, count: int, plan: Plan, seed: int, parameters: Any) -> SequenceSet:
    """Where one of so many is refused, such as a reaction that dies out: by the dozen, without its dozen."""
    try:
        return DOMAINS[domain].simulate(count, plan.frames, plan.size, seed, parameters=parameters)
    except InvalidInput:
        if count <= DOZEN:
            raise
    dozens: list[SequenceSet] = []
    for part in range(100 * seed, 100 * (seed + 1)):
        with suppress(InvalidInput):
            dozens.append(DOMAINS[domain].simulate(DOZEN, plan.frames, plan.size, part, parameters=parameters))
        if DOZEN * len(dozens) >= count:
            break
    else:
        raise BrokenError(f"{domain}: a hundred dozens of trajectories, and {len(dozens)} were not refused")
    return SequenceSet(np.concatenate([one.values for one in dozens])[:count], None, dozens[0].meta)


def spaced(domain: str, size: int, frames: int) -> Any:
    """The domain's parameters with frames so many steps apart that persistence errs as `SPACING` says."""
    parameters, least, most = PARAMETERS[domain](size), *SPACING
    for _ in range(SPACING_TRIES):
        seen = DOMAINS[domain].simulate(2, frames, size, 2, parameters=parameters).values
        error = vrmse(seen[:, :-1], seen[:, 1:])
        if least <= error <= most:
            break
        steps = max(1, round(parameters.frame_steps * (least + most) / 2 / error))
        parameters = replace(parameters, frame_steps=steps)
    return parameters


def medians(cells: Mapping[str, Numbers], name: str) -> float:
    """Over the domains."""
    return float(np.median([numbers[name] for numbers in cells.values()]))
