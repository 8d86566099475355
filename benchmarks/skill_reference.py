"""The reference task: ours beside a U-Net, an FNO and a ResNet, an equal allowance of CPU-seconds and inputs for all.

Two tracks, E and the density of the same trajectories: two frames of the one field and the slopes of the newest, never
the potential. Rates are chosen on validation trajectories, further ones where the highest was best; VRMSE is of
held-out ones, one step ahead from every fourth frame. What is compiled is not counted. The first seed then gets ten
times as much. Lines to read it beside: trivial forecasters, and the equation on wider cells. ``--data`` names the
artifacts folder that `nvp atlas make --reference` filled, density is simulated at first; ``--rates``, ``--seeds`` and
``--cpu-s`` make it smaller, which the figures tell; ``--cells`` makes no more than so many of the long runs that
earlier runs have not kept.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np

from benchmarks import peers, reference_data
from benchmarks.cells import Numbers, cell, place
from benchmarks.clock import CpuPacer
from benchmarks.one_core import pin
from benchmarks.peer_training import PeerTrainer
from benchmarks.reference_data import Splits
from benchmarks.reference_solvers import SOLVERS, solver_lines
from benchmarks.verdict import Figure
from nvp_agentkit.fields.forecasters import Forecaster, trivial_forecasters
from nvp_agentkit.fields.metrics import spectral_error, vrmse
from nvp_agentkit.fields.sequence import Floats, SequenceSet
from nvp_agentkit.model import NetworkForecaster
from nvp_agentkit.training import MemberConfig, MemberTrainer, Pacer, StepPacer
from nvp_agentkit.training.members import network_for

OURS = "ours"
PEER_RATE = 1e-3
TIMES = (1.0, 3.0, 1 / 3, 10.0, 0.1)  # the usual rate, ours or `PEER_RATE`
SEEDS, CPU_S = 3, 60.0
LONGER = 10  # times the allowance, for one seed of each
FURTHER = 3.0  # times the highest rate, where that was best
EVERY = 4
VALIDATION_FRAMES = 18  # of each trajectory: more would cost a run of a minute too much of it
HALF = 2.0  # of the best peer's error


class Track(NamedTuple):
    """One field that is forecast, and what our VRMSE of it is held to; ``longer`` after more of training."""

    name: str
    floor: float
    goal: float
    longer: float | None = None


ENERGY, DENSITY = Track("E", 0.045, 0.030), Track("density", 0.030, 0.020, longer=0.014)


class Plan(NamedTuple):
    """What a cell depends on beside its contestant, rate and seed; ``data`` are digests, none of stand-ins."""

    cpu_s: float
    data: tuple[str, ...]

    def cell(self, name: str, made: Callable[[], Numbers]) -> Numbers:
        """Kept, unless of stand-ins."""
        return cell("skill_reference", name, self, made) if self.data else made()

    def kept(self, name: str) -> bool:
        """Whether an earlier run made that."""
        return place("skill_reference", name, self).exists()


class Contest(NamedTuple):
    """The data, and one way of training for each contestant."""

    track: Track
    train: SequenceSet
    validation: SequenceSet
    test: SequenceSet
    fit: dict[str, Callable[[int, float, Pacer], Forecaster]]


class Long(NamedTuple):
    """One seed of a contestant at its best rate, with more to spend."""

    contest: Contest
    plan: Plan
    name: str
    rate: float

    @property
    def cell(self) -> str:
        return f"{self.contest.track.name}-{self.name}-{self.rate:.1e}-0"


def measure(
    *, quick: bool, data: Path | None = None, cpu_s: float | None = None, rates: int | None = None,
    seeds: int | None = None, cells: int | None = None,
) -> dict[str, Figure]:  # fmt: skip
    """Quick: stand-ins of 32x32 cells, one peer and a few steps each, held to nothing."""
    pin()
    rates, seeds = (1, 1) if quick else (rates or len(TIMES), seeds or SEEDS)
    cpu_s = cpu_s or (0.5 if quick else CPU_S)
    names = (OURS, *(peers.NAMES[:1] if quick else peers.NAMES))
    figures: dict[str, Figure] = {}
    longer = []
    for track in (ENERGY, DENSITY):
        splits = _data(track, data, quick=quick)
        plan = Plan(cpu_s, splits.digests)
        few = SequenceSet(splits.validation.values[:, :VALIDATION_FRAMES], None, splits.validation.meta)
        contest = Contest(track, splits.train, few, splits.test, {})
        errors = {name: _contestant(name, contest, plan, TIMES[:rates], seeds) for name in names}
        trivial = plan.cell(f"{track.name}-trivial", partial(_trivial, contest))
        lines = partial(solver_lines, contest.test, EVERY, density=track is DENSITY)
        solvers = plan.cell(f"{track.name}-{SOLVERS}", lines)
        figures |= _figures(track, errors, trivial, solvers, held=not quick)
        plan = plan._replace(cpu_s=LONGER * cpu_s)
        longer += [Long(contest, plan, name, errors[name][0]["rate"]) for name in names if not quick]
    figures |= _longer(sorted(longer, key=lambda one: names.index(one.name)), len(longer) if cells is None else cells)
    told = {
        "training": Figure(cpu_s, "CPU-s", goal=CPU_S, higher_is_better=True),
        "rates": Figure(rates, "of each", goal=len(TIMES), higher_is_better=True),
        "seeds": Figure(seeds, "at best", goal=SEEDS, higher_is_better=True),
    }
    return told | figures


def _data(track: Track, artifacts: Path | None, *, quick: bool) -> Splits:
    if quick:
        return reference_data.stand_ins(density=track is DENSITY)
    return reference_data.density() if track is DENSITY else reference_data.energy(artifacts)


def _trivial(contest: Contest) -> Numbers:
    return {one.name: _vrmse(one, contest.test) for one in trivial_forecasters(contest.train)}


def _longer(runs: list[Long], room: int) -> dict[str, Figure]:
    """All that are kept, and as many more as there is ``room`` for."""
    figures = {}
    for run in runs:
        kept = run.plan.kept(run.cell)
        if not kept and room <= 0:
            continue
        room -= not kept
        made = partial(_trained, run.name, run.contest, run.plan, 0, run.rate)
        for what, value in run.plan.cell(run.cell, made).items():
            goal = run.contest.track.longer if (run.name, what) == (OURS, "vrmse") else None
            name = f"{run.contest.track.name}/{run.name}/{run.plan.cpu_s:.0f}_CPU-s/{what}"
            figures[name] = Figure(value, _UNITS.get(what, "nRMSE"), goal=goal)
    return figures


def _figures(
    track: Track, errors: dict[str, list[Numbers]], trivial: Numbers, solvers: Numbers, *, held: bool
) -> dict[str, Figure]:
    """Our worst seed against everybody's best."""
    ours = [run["vrmse"] for run in errors[OURS]]
    floor, goal = (track.floor, track.goal) if held else (None, None)
    figures = {f"{OURS}/vrmse": Figure(float(np.median(ours)), "VRMSE", floor, goal)}
    least = 1.0 if held else None
    rivals = {name: min(run["vrmse"] for run in runs) for name, runs in errors.items() if name != OURS}
    for name, error in rivals.items():
        figures[f"{name}/over_ours"] = Figure(error / max(ours), "x", least, HALF, higher_is_better=True)
    best = min(trivial.values())
    figures["best_trivial/over_ours"] = Figure(best / max(ours), "x", least, higher_is_better=True)
    for name, runs in errors.items():
        for seed, run in enumerate(runs):
            figures |= {
                f"{name}/seed_{seed}/{what}": Figure(value, _UNITS.get(what, "nRMSE")) for what, value in run.items()
            }
    figures |= {f"trivial/{name}": Figure(error, "VRMSE") for name, error in trivial.items()}
    figures |= {f"solver/{name}": Figure(error, "VRMSE") for name, error in solvers.items()}
    return {f"{track.name}/{name}": figure for name, figure in figures.items()}


_UNITS = {"vrmse": "VRMSE", "validation": "VRMSE", "steps": "steps", "rate": "", "cpu_s": "CPU-s"}


def _contestant(name: str, contest: Contest, plan: Plan, times: tuple[float, ...], seeds: int) -> list[Numbers]:
    """Its runs at the rate that validated best, by seed."""
    usual = MemberConfig().learning_rate if name == OURS else PEER_RATE

    def run(seed: int, rate: float) -> Numbers:
        made = partial(_trained, name, contest, plan, seed, rate)
        return plan.cell(f"{contest.track.name}-{name}-{rate:.1e}-{seed}", made)

    tried = {rate: run(0, rate) for rate in (usual * by for by in times)}
    while (best := min(tried.values(), key=lambda found: found["validation"]))["rate"] == max(tried) and len(tried) > 1:
        tried[FURTHER * max(tried)] = run(0, FURTHER * max(tried))
    return [best, *(run(seed, best["rate"]) for seed in range(1, seeds))]


def _trained(name: str, contest: Contest, plan: Plan, seed: int, rate: float) -> Numbers:
    if name not in contest.fit:
        fit = _ours(contest) if name == OURS else PeerTrainer(name, contest.train, MemberConfig()).fit
        fit(0, rate, StepPacer(1))  # compiles
        contest.fit[name] = fit
    pacer = CpuPacer(plan.cpu_s)
    steps = _Counting(pacer)
    trained = contest.fit[name](seed, rate, steps)
    told = {"rate": rate, "steps": float(steps.steps), "cpu_s": steps.used_s}
    came, said = _told(trained, contest.test)
    return told | {
        "validation": _vrmse(trained, contest.validation), "vrmse": vrmse(said, came), **spectral_error(said, came)
    }  # fmt: skip


class _Counting(Pacer):
    """What a run did until it was last asked."""

    def __init__(self, pacer: CpuPacer) -> None:
        self._pacer, self.steps, self.used_s = pacer, 0, 0.0

    def may_continue(self, step: int) -> bool:
        self.steps, self.used_s = step, self._pacer.used_s
        return self._pacer.may_continue(step)

    def fraction_used(self, step: int) -> float:
        return self._pacer.fraction_used(step)


def _ours(contest: Contest) -> Callable[[int, float, Pacer], Forecaster]:
    network = network_for(contest.train.meta, masked=False)

    def fit(seed: int, rate: float, pacer: Pacer) -> Forecaster:
        config = replace(MemberConfig(network), seed=seed, learning_rate=rate)
        return NetworkForecaster(MemberTrainer(config).fit(contest.train, contest.validation, pacer).bundle)

    return fit


def _told(forecaster: Forecaster, data: SequenceSet) -> tuple[Floats, Floats]:
    """What came and what was said, one step ahead from every fourth frame."""
    context = forecaster.context_frames
    starts = range(0, data.frames - context, EVERY)
    shown = np.concatenate([data.values[:, start : start + context] for start in starts])
    came = np.concatenate([data.values[:, start + context] for start in starts])
    return came, forecaster.predict_next(shown)[0]


def _vrmse(forecaster: Forecaster, data: SequenceSet) -> float:
    came, said = _told(forecaster, data)
    return vrmse(said, came)
