"""After how many forecasts the joules of data and training are paid back, against solvers of no larger error.

In every simulator at 64x64: a champion, trained on 12 trajectories and chosen on 4, all of it counted, what is compiled
too. ``seeing`` is the same equation on half the cells, told what the network is told: maps of energy, from which it has
to guess the state (`domains.blind`). It is compared with even where it errs more than the network, and nothing is
counted of what it learned from: both in its favour. ``knowing`` is told the whole hidden state at no cost, which no
forecaster is, on the coarsest cells that err no more than the network, at worst those of the truth. A forecast is one
step ahead, of one field. Unknown means never. ``--cells`` judges no more than so many simulators that earlier runs have
not, and tells of those there are, which the figures say.
"""

from __future__ import annotations

import math
import time
from functools import partial
from typing import NamedTuple

import jax
import numpy as np

from benchmarks.baselines import solver_cpu_s
from benchmarks.cells import Numbers, cell, place
from benchmarks.clock import CpuPacer
from benchmarks.every_domain import spaced
from benchmarks.one_core import pin
from benchmarks.verdict import BrokenError, Figure
from nvp_agentkit.domains import DOMAINS
from nvp_agentkit.domains.blind import BlindSolver
from nvp_agentkit.domains.coarse import coarse_forecasts
from nvp_agentkit.domains.runs import Process, run
from nvp_agentkit.energy.sensors import WATTS_PER_CORE
from nvp_agentkit.errors import InvalidInput
from nvp_agentkit.fields.forecasters import Forecaster
from nvp_agentkit.fields.metrics import vrmse
from nvp_agentkit.fields.sequence import Floats, SequenceSet
from nvp_agentkit.model import NetworkForecaster
from nvp_agentkit.training import MemberTrainer, ensemble

FULL_CPU_S = 60.0
GOAL = 1000.0
WIDER = (4, 2, 1)  # cells, so many times; the coarsest first
SEEING_WIDER, SEEING_WINDOWS = 2, 8  # of the held-out ones, spread over them: each takes it a quarter of a second


class Plan(NamedTuple):
    """How much of everything."""

    cpu_s: float
    domains: tuple[str, ...] = tuple(DOMAINS)
    size: int = 64
    frames: int = 21
    trajectories: tuple[int, int, int] = (12, 4, 4)


QUICK = Plan(2.0, ("heat_diffusion",), 32, 9, (2, 1, 1))


class Opponent(NamedTuple):
    """A solver: its error, its price of one forecast, and how much wider than the truth's its cells are."""

    vrmse: float
    joules: float
    wider: int


def measure(*, quick: bool, cpu_s: float | None = None, cells: int | None = None) -> dict[str, Figure]:
    """Quick: one simulator at 32x32.

    Raises:
        BrokenError: none is judged yet.
    """
    pin()
    plan = QUICK if quick else Plan(FULL_CPU_S)
    plan = plan if cpu_s is None else plan._replace(cpu_s=cpu_s)
    found = {one: judged(one, plan) for one in plan.domains} if quick else _kept(plan, cells)
    if not found:
        raise BrokenError("no simulator is judged yet; let it judge some with --cells")
    figures = {
        "domains": Figure(len(found), f"of {len(plan.domains)}", goal=len(plan.domains), higher_is_better=True),
        "training": Figure(plan.cpu_s, "CPU-s", goal=FULL_CPU_S, higher_is_better=True),
    }
    for name in ("seeing", "knowing"):
        counts = {one: forecasts(numbers, name) for one, numbers in found.items()}
        ever = sorted(count for count in counts.values() if count is not None)
        middle = ever[len(counts) // 2] if len(ever) > len(counts) // 2 else None
        figures[f"{name}/median"] = Figure(middle, "forecasts", goal=GOAL)
        figures[f"{name}/paid_back"] = Figure(len(ever), f"of {len(counts)}", goal=len(counts), higher_is_better=True)
        figures |= {f"{one}/{name}/break_even": Figure(count, "forecasts", goal=GOAL) for one, count in counts.items()}
    for one, numbers in found.items():
        figures |= {f"{one}/{name}": Figure(value, _unit(name)) for name, value in numbers.items()}
    return figures


def _kept(plan: Plan, most: int | None) -> dict[str, Numbers]:
    """Of each domain that was judged before, and of the first ``most`` others."""
    settings, room = plan._replace(domains=()), math.inf if most is None else most
    found = {}
    for domain in plan.domains:
        new = not place("break_even", domain, settings).exists()
        if new and room < 1:
            continue
        room -= new
        found[domain] = cell("break_even", domain, settings, partial(judged, domain, plan))
    return found


def forecasts(numbers: Numbers, opponent: str) -> float | None:
    """How many until what was spent is saved; None: a forecast saves nothing."""
    saved = numbers[f"{opponent}/forecast"] - numbers["network/forecast"]
    return (numbers["data"] + numbers["training"]) / saved if saved > 0 else None


def _unit(name: str) -> str:
    return {"vrmse": "VRMSE", "wider": "times"}.get(name.rpartition("/")[2], "J")


def judged(domain: str, plan: Plan) -> Numbers:
    """Errors of one step ahead on trajectories held out, and joules."""
    jax.clear_caches()  # type: ignore[no-untyped-call]  # what another domain compiled would be free here
    parameters = spaced(domain, plan.size, plan.frames)
    process = [DOMAINS[domain].process(plan.size, seed, parameters) for seed in (1, 2, 3)]
    counts, began = plan.trajectories, time.process_time()
    train, validation = (run(one, count, plan.frames) for one, count in zip(process[:2], counts[:2], strict=True))
    data_j = _joules_since(began)
    began = time.process_time()
    recipe = ensemble(train, members=1)[0]
    trained = MemberTrainer(recipe.config).fit(train, validation, CpuPacer(plan.cpu_s))
    training_j = _joules_since(began)
    test = run(process[2], counts[2], plan.frames)
    shown, came = _windows(test, trained.bundle.config.context_frames)
    error, forecast_j = _asked(NetworkForecaster(trained.bundle), shown, came)
    found = {"data": data_j, "training": training_j, "network/vrmse": error, "network/forecast": forecast_j}
    some = slice(None, None, max(1, len(shown) // SEEING_WINDOWS))
    seeing = BlindSolver.taught(process[0], SEEING_WIDER, counts[0], plan.frames)
    opponents = {
        "seeing": Opponent(*_asked(seeing, shown[some], came[some]), SEEING_WIDER),
        "knowing": _good_enough(process[2], plan, error),
    }
    for name, one in opponents.items():
        found |= {f"{name}/vrmse": one.vrmse, f"{name}/forecast": one.joules, f"{name}/wider": float(one.wider)}
    return found


def _joules_since(began: float) -> float:
    return (time.process_time() - began) * WATTS_PER_CORE


def _windows(test: SequenceSet, context: int) -> tuple[Floats, Floats]:
    starts = range(test.frames - context)
    shown = np.concatenate([test.values[:, start : start + context] for start in starts])
    return shown, np.concatenate([test.values[:, start + context] for start in starts])


def _asked(forecaster: Forecaster, shown: Floats, came: Floats) -> tuple[float, float]:
    """VRMSE and joules of a forecast, compiled, one window at a time."""
    forecaster.predict_next(shown[:1])
    began = time.process_time()
    told = np.concatenate([forecaster.predict_next(window[None])[0] for window in shown])
    return vrmse(told, came), _joules_since(began) / len(shown)


def _good_enough(process: Process, plan: Plan, error: float) -> Opponent:
    """The solver on the coarsest cells whose error is no larger; else on those of the truth."""
    found = None
    for wider in WIDER:
        try:
            told = coarse_forecasts(process, wider, plan.trajectories[2], plan.frames)
        except InvalidInput:
            continue  # its cells cannot carry the equation
        found = Opponent(vrmse(told.forecast, told.truth), solver_cpu_s(process, wider) * WATTS_PER_CORE, wider)
        if found.vrmse <= error:
            break
    if found is None:
        raise BrokenError(f"no solver can carry {process.meta.domain} on {plan.size} cells or fewer")
    return found
