"""What a network gains by maps beside the field (`NVPConfig.beside`).

``plasma``: E of plasma turbulence on 64x64 cells, one network that is shown E and one that is shown the density as
well, on the same trajectories for the same CPU time; errors one step ahead on others. ``domains``: the starter's
recipe, one set of weights on seven simulators at two spacings of frames, that is told neither (as the starter is) or
both, in equal steps; errors of other trajectories, their geometric mean.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from typing import NamedTuple

import numpy as np

from benchmarks import starter_weights
from benchmarks.cells import Numbers, cell
from benchmarks.clock import CpuPacer
from benchmarks.one_core import pin
from benchmarks.verdict import Figure
from nvp_agentkit.domains import DOMAINS, plasma_physics
from nvp_agentkit.domains.runs import run
from nvp_agentkit.fields.metrics import vrmse
from nvp_agentkit.fields.sequence import Floats, SequenceSet
from nvp_agentkit.model import ModelBundle, predict_next
from nvp_agentkit.model.bundle import Normalization
from nvp_agentkit.training import MemberTrainer, StepPacer, ensemble
from nvp_agentkit.training.evaluate import evaluate

SEEDS = (0, 1000, 2000)  # of what is learnt from, of what is chosen on, of what is judged
TOLD = ("spacing", *DOMAINS)


class Plan(NamedTuple):
    """How much of everything; by default what is committed."""

    size: int = 64
    frames: int = 41
    trajectories: tuple[int, int, int] = (48, 8, 8)
    cpu_s: float = 100.0
    steps: int = starter_weights.STEPS


QUICK = Plan(32, 28, (3, 2, 2), 2.0, 4)


def measure(*, quick: bool) -> dict[str, Figure]:
    """Quick: plasma at 32x32, a few steps."""
    pin()
    plan = QUICK if quick else Plan()
    figures: dict[str, Figure] = {}
    parts = (("plasma", _plasma, ("density",)), ("domains", _domains, TOLD))
    for name, made, more in parts[: 1 if quick else None]:
        errors = {}
        for how, beside in (("alone", ()), ("told", more)):
            making = partial(made, plan, beside)
            numbers = making() if quick else cell("beside", f"{name}-{how}", plan, making)
            errors[how] = numbers["vrmse"]
            figures |= {f"{name}/{how}_{what}": Figure(value, "") for what, value in numbers.items()}
        figures[f"{name}/told_over_alone"] = Figure(errors["told"] / errors["alone"], "times")
    return figures


def _plasma(plan: Plan, beside: Sequence[str]) -> Numbers:
    train, validation, test = (
        _with_density(plan, count, seed) for count, seed in zip(plan.trajectories, SEEDS, strict=True)
    )
    (recipe,) = ensemble(train, members=1)
    config = replace(recipe.config, model_config=replace(recipe.config.model_config, beside=tuple(beside)))
    MemberTrainer(config).fit(train, validation, StepPacer(1))  # compiles
    pacer = CpuPacer(plan.cpu_s)
    trained = MemberTrainer(config).fit(train, validation, pacer)
    return {"vrmse": evaluate(trained.bundle, test).vrmse, "cpu_s": pacer.used_s, "steps": float(trained.steps)}


def _with_density(plan: Plan, trajectories: int, seed: int) -> SequenceSet:
    energy, density = (
        run(plasma_physics.process(plan.size, seed, density=instead), trajectories, plan.frames)
        for instead in (False, True)
    )
    return replace(energy, channels={"density": density.values})


def _domains(plan: Plan, beside: Sequence[str]) -> Numbers:
    bundle = starter_weights.trained(plan.steps, beside)
    errors = [
        _error(bundle, name, spacing, units)
        for name, by_spacing in starter_weights.examples().items()
        for spacing, units in zip(starter_weights.STRIDES, (one.units for one in by_spacing), strict=True)
    ]
    return {"vrmse": math.exp(sum(map(math.log, errors)) / len(errors))}


def _error(bundle: ModelBundle, name: str, spacing: int, units: Normalization) -> float:
    data = DOMAINS[name].simulate(4, starter_weights.FRAMES, starter_weights.SIDE, SEEDS[2])
    config = replace(bundle.config, boundary=data.meta.boundary)
    own = replace(bundle, config=config, normalization=units)
    frames, came = _windows(data.values[:, ::spacing], config.context_frames)
    told = starter_weights.facts(name, spacing) if config.beside else None
    return vrmse(predict_next(own, frames, beside=told)[0], came)


def _windows(values: Floats, context: int) -> tuple[Floats, Floats]:
    starts = range(values.shape[1] - context)
    frames = np.concatenate([values[:, start : start + context] for start in starts])
    return frames, np.concatenate([values[:, start + context] for start in starts])
