"""The reference task: ours beside a U-Net, an FNO and a ResNet, an equal allowance of CPU-seconds and inputs for all.

Energy alone, two frames and the slopes of the newest; the density track waits for a simulator that delivers density.
Rates are chosen on validation trajectories, VRMSE is of held-out ones, one step ahead from every fourth frame. What is
compiled is not counted. ``--data`` names the artifacts folder that `nvp atlas make --reference` filled; ``--rates``,
``--seeds`` and ``--cpu-s`` make it smaller, which the figures tell.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np

from benchmarks import peers
from benchmarks.cells import Numbers, cell
from benchmarks.clock import CpuPacer
from benchmarks.one_core import pin
from benchmarks.peer_training import PeerTrainer
from benchmarks.verdict import BrokenError, Figure
from nvp_agentkit.domains.hasegawa_wakatani import Parameters
from nvp_agentkit.domains.reference import reference
from nvp_agentkit.fields.forecasters import Forecaster, trivial_forecasters
from nvp_agentkit.fields.metrics import spectral_error, vrmse
from nvp_agentkit.fields.sequence import Floats, SequenceSet
from nvp_agentkit.fields.storage import open_sequences
from nvp_agentkit.model import NetworkForecaster
from nvp_agentkit.reference_task import PARTS, SPLIT_NAMES
from nvp_agentkit.training import MemberConfig, MemberTrainer, Pacer, StepPacer
from nvp_agentkit.training.members import network_for

OURS = "ours"
PEER_RATE = 1e-3
TIMES = (1.0, 3.0, 1 / 3, 10.0, 0.1)  # the usual rate, ours or `PEER_RATE`
SEEDS, CPU_S = 3, 60.0
EVERY = 4
VALIDATION_FRAMES = 18  # of each trajectory: more would cost a run of a minute too much of it
FLOOR, GOAL, HALF = 0.045, 0.030, 2.0


class Plan(NamedTuple):
    """What a cell depends on beside its contestant, rate and seed."""

    cpu_s: float
    data: tuple[str | None, ...]


class Contest(NamedTuple):
    """The data, and one way of training for each contestant."""

    train: SequenceSet
    validation: SequenceSet
    test: SequenceSet
    fit: dict[str, Callable[[int, float, Pacer], Forecaster]]


def measure(
    *, quick: bool, data: Path | None = None, cpu_s: float | None = None, rates: int | None = None,
    seeds: int | None = None,
) -> dict[str, Figure]:  # fmt: skip
    """Quick: stand-ins of 32x32 cells, one peer and a few steps each, held to nothing."""
    pin()
    train, validation, test = _stand_ins() if quick else given(data)
    rates, seeds = (1, 1) if quick else (rates or len(TIMES), seeds or SEEDS)
    plan = Plan(cpu_s or (0.5 if quick else CPU_S), tuple(PARTS[split].digest for split in SPLIT_NAMES))
    few = SequenceSet(validation.values[:, :VALIDATION_FRAMES], None, validation.meta)
    contest = Contest(train, few, test, {})
    names = (OURS, *(peers.NAMES[:1] if quick else peers.NAMES))
    errors = {name: _contestant(name, contest, plan, TIMES[:rates], seeds, kept=not quick) for name in names}
    trivial = {one.name: _vrmse(one, test) for one in trivial_forecasters(train)}
    told = {
        "training": Figure(plan.cpu_s, "CPU-s", goal=CPU_S, higher_is_better=True),
        "rates": Figure(rates, "of each", goal=len(TIMES), higher_is_better=True),
        "seeds": Figure(seeds, "at best", goal=SEEDS, higher_is_better=True),
    }
    return told | _figures(errors, trivial, held=not quick)


def _figures(errors: dict[str, list[Numbers]], trivial: dict[str, float], *, held: bool) -> dict[str, Figure]:
    """Our worst seed against everybody's best."""
    ours = [run["vrmse"] for run in errors[OURS]]
    floor, goal = (FLOOR, GOAL) if held else (None, None)
    figures = {"ours/E/vrmse": Figure(float(np.median(ours)), "VRMSE", floor, goal)}
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
    return figures | {f"trivial/{name}": Figure(error, "VRMSE") for name, error in trivial.items()}


_UNITS = {"vrmse": "VRMSE", "validation": "VRMSE", "steps": "steps", "rate": "", "cpu_s": "CPU-s"}


def _contestant(
    name: str, contest: Contest, plan: Plan, times: tuple[float, ...], seeds: int, *, kept: bool
) -> list[Numbers]:
    """Its runs at the rate that validated best, by seed."""
    usual = MemberConfig().learning_rate if name == OURS else PEER_RATE

    def run(seed: int, rate: float) -> Numbers:
        made = partial(_trained, name, contest, plan, seed, rate)
        return cell("skill_reference", f"{name}-{rate:.1e}-{seed}", plan, made) if kept else made()

    best = min((run(0, usual * by) for by in times), key=lambda found: found["validation"])
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


def given(artifacts: Path | None) -> list[SequenceSet]:
    found = []
    for split in SPLIT_NAMES:
        digest = (PARTS[split].digest or "").removeprefix("sha256:")
        path = (artifacts or Path()) / "sha256" / digest[:2] / digest[2:]
        if artifacts is None or not path.is_file():
            raise BrokenError(f"no {split} data of the reference task; make them with `nvp atlas make --reference` "
                              "and name the artifacts folder with --data")  # fmt: skip
        found.append(open_sequences(path))
    return found


def _stand_ins() -> list[SequenceSet]:
    parameters = replace(Parameters.for_size(32), spin_up=4.0)
    return [reference(split, size=32, frames=7, parameters=parameters) for split in SPLIT_NAMES]
