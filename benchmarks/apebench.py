"""APEBench's own 2-D scenarios: our network beside its Conv, Res, U-Net and FNO, its data and its metric.

64 points, batches of 8, 300 steps each, one seed; mean nRMSE over the ten steps after a first state nobody has seen.
Each is shown one state, which in these scenarios is all there is to know. Theirs are trained by APEBench, ours by its
own trainer; neither sees anything but the training trajectories. Where a state has two fields, ours is a network for
each that is shown both beside its own (`NVPConfig.beside`), as high as they are. As many trajectories are made as the
steps have use for, 48 and 30 at 300 steps. ``--steps`` makes it smaller; ``--cells`` makes no more than so many of what
earlier runs have not kept, the cheapest first, and tells what there is: the figures say both. CPU-seconds are of one
core, without what is compiled.
"""

from __future__ import annotations

import math
import time
from collections import defaultdict
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from benchmarks import apebench_peers
from benchmarks.cells import KEPT, Numbers, cell, place
from benchmarks.one_core import pin
from benchmarks.verdict import BrokenError, Figure
from nvp_agentkit.energy.sensors import WATTS_PER_CORE
from nvp_agentkit.fields.sequence import FieldMeta, Floats, SequenceSet
from nvp_agentkit.model import ModelBundle, NVPConfig, predict_next
from nvp_agentkit.training import MemberConfig, MemberTrainer, Progress, StepPacer

SCENARIOS = ("phy_decay_turb", "phy_gs_type", "phy_kolm_flow")
PRESETS = {"fno": "FNO;12;18;4;gelu", "u_net": "UNet;12;2;relu", "conv": "Conv;26;10;relu", "res": "Res;26;8;relu"}
OURS, DATA = "ours", "data"
SIZE, BATCH, STEPS = 64, 8, 300
QUICK_SIZE, QUICK_STEPS, QUICK_PRESET = 16, 10, {"fno": "FNO;4;8;2;gelu"}
VALIDATED = 64  # states of the training data on which ours chooses among its weights
UNITS = {
    "mean_nrmse": "nRMSE",
    "persistence": "nRMSE",
    "parameters": "",
    "cpu_s": "CPU-s",
    "forecast_cpu_s": "CPU-s",
    "joules": "J",
}


class Plan(NamedTuple):
    """How much of everything."""

    steps: int = STEPS
    size: int = SIZE


def measure(*, quick: bool, steps: int | None = None, cells: int | None = None) -> dict[str, Figure]:
    """Quick: a few steps of a tiny network in one scenario, held to nothing; the environment is made the first time.

    Raises:
        BrokenError: nothing of ours has anything beside it yet.
    """
    pin()
    plan = Plan(QUICK_STEPS, QUICK_SIZE) if quick else Plan(steps or STEPS)
    presets, scenarios = (QUICK_PRESET, SCENARIOS[:1]) if quick else (PRESETS, SCENARIOS)
    found = _found(plan, presets, scenarios, math.inf if cells is None else cells)
    if not found:
        raise BrokenError("no scenario has both ours and a preset; let it make more with --cells")
    networks, all_networks = sum(len(one) - 1 for one in found.values()), len(scenarios) * (1 + len(presets))
    told = {
        "networks": Figure(networks, f"of {all_networks}", goal=all_networks, higher_is_better=True),
        "steps": Figure(plan.steps, "of training", goal=STEPS, higher_is_better=True),
        "points": Figure(plan.size, "a side", goal=SIZE, higher_is_better=True),
    }
    return told | _figures(found, held=not quick)


def _figures(found: dict[str, dict[str, Numbers]], *, held: bool) -> dict[str, Figure]:
    """Presets over ours: each by the geometric mean of the scenarios it has, and in each scenario the best of them."""
    least = 1.0 if held else None
    ratios: dict[str, list[float]] = defaultdict(list)
    figures: dict[str, Figure] = {}
    for scenario, numbers in found.items():
        ours = numbers[OURS]
        rivals = {name: one for name, one in numbers.items() if name not in (OURS, DATA)}
        for name, one in rivals.items():
            ratios[name].append(one["mean_nrmse"] / ours["mean_nrmse"])
        best = min(one["mean_nrmse"] for one in rivals.values()) / ours["mean_nrmse"]
        figures[f"{scenario}/best_preset/over_ours"] = Figure(best, "x", goal=least, higher_is_better=True)
        for what in ("parameters", "joules"):
            best = min(one["mean_nrmse"] * one[what] for one in rivals.values()) / (ours["mean_nrmse"] * ours[what])
            figures[f"{scenario}/by_{what}/over_ours"] = Figure(best, "x", goal=least, higher_is_better=True)
        for name, one in numbers.items():
            figures |= {f"{scenario}/{name}/{what}": Figure(value, UNITS[what]) for what, value in one.items()}
    means = {name: math.exp(float(np.mean(np.log(each)))) for name, each in ratios.items()}
    best = min(means.values())
    told = {"best_preset/over_ours": Figure(best, "x", least, higher_is_better=True)}
    return told | {f"{name}/over_ours": Figure(mean, "x") for name, mean in means.items()} | figures


def _found(
    plan: Plan, presets: dict[str, str], scenarios: tuple[str, ...], room: float
) -> dict[str, dict[str, Numbers]]:
    """By scenario what is kept and, while there is ``room``, what is made; those where ours has a rival."""
    found: dict[str, dict[str, Numbers]] = {scenario: {} for scenario in scenarios}
    for name in (DATA, OURS, *presets):
        for scenario, numbers in found.items():
            one = _Cell(plan, scenario, name, presets.get(name))
            if name != DATA and DATA not in numbers:
                continue
            if not one.kept():
                if room < 1:
                    continue
                room -= 1
            numbers[name] = one.numbers()
    return {scenario: numbers for scenario, numbers in found.items() if OURS in numbers and len(numbers) > 2}


class _Cell(NamedTuple):
    """One network in one scenario, or that scenario's data."""

    plan: Plan
    scenario: str
    name: str
    preset: str | None

    @property
    def _known_by(self) -> tuple[str, str, Any]:
        settings = self.plan if self.preset is None else [*self.plan, self.preset]
        return "apebench" if self.name == OURS else "apebench_peers", f"{self.scenario}-{self.name}", settings

    def kept(self) -> bool:
        return place(*self._known_by, ours=self.name == OURS).exists()

    def numbers(self) -> Numbers:
        """Those of training priced."""
        folder = KEPT / f"apebench-{self.scenario}-{self.plan.steps}-{self.plan.size}"
        folder.mkdir(parents=True, exist_ok=True)
        theirs = partial(apebench_peers.run, folder, self.preset or self.name, self.scenario, *self.plan)
        ours = partial(_ours, self.scenario, self.plan, folder)
        found = cell(*self._known_by, ours if self.name == OURS else theirs, ours=self.name == OURS)
        return found | {"joules": found["cpu_s"] * WATTS_PER_CORE}


def _ours(scenario: str, plan: Plan, folder: Path) -> Numbers:
    train, test = (np.load(folder / f"{part}.npy") for part in ("train", "test"))
    offset, scale = (of(train, axis=(0, 1, 3, 4), keepdims=True)[0] for of in (np.mean, np.std))
    train, first = (train - offset) / scale, (test[:, 0] - offset[0]) / scale[0]
    fields = [_trained(place, train, plan.steps) for place in range(train.shape[2])]
    bundles = [one for one, *_ in fields]
    began, rolled, now = 0.0, [], first
    for step in range(test.shape[1]):
        if step == 1:  # the first one compiled
            began, now = time.process_time(), first
        maps = _maps(now)
        now = np.stack(
            [predict_next(one, now[:, place, None], beside=maps)[0] for place, one in enumerate(bundles)], 1
        )
        rolled.append(now)
    forecast_s = (time.process_time() - began) / (len(rolled) - 1) / len(test)
    np.save(folder / "forecast.npy", np.stack(rolled[1:], 1) * scale + offset)
    scored = apebench_peers.run(folder, "score", scenario, *plan)
    return {
        "mean_nrmse": scored["mean_nrmse"],
        "parameters": float(sum(parameters for _, parameters, _ in fields)),
        "cpu_s": sum(cpu_s for *_, cpu_s in fields),
        "forecast_cpu_s": forecast_s,
    }


def _maps(state: Floats) -> dict[str, Floats]:
    """Of states (..., C, H, W) the fields by name, where there are several."""
    count = state.shape[-3]
    return {f"field_{place}": state[..., place, :, :] for place in range(count)} if count > 1 else {}


def _trained(place: int, train: Floats, steps: int) -> tuple[ModelBundle, int, float]:
    """The network of one field of ``train`` (N, T, C, H, W), its weights' number, and what training it took."""
    pairs = np.stack([train[:, :-1], train[:, 1:]], 2).reshape(-1, 2, *train.shape[2:])
    meta = FieldMeta("apebench", boundary=("periodic", "periodic"))
    data = SequenceSet(pairs[:, :, place], None, meta, channels=_maps(pairs))
    network = NVPConfig(context_frames=1, boundary=meta.boundary, positive=False, beside=tuple(data.channels))
    config = MemberConfig(network, batch_size=BATCH)
    seen: list[float] = []

    def note(progress: Progress) -> None:
        if progress.phase == "training":
            seen.append(time.process_time())

    validated = data.select(slice(None, None, max(1, len(data) // VALIDATED)))
    trained = MemberTrainer(config).fit(data, validated, StepPacer(steps), note)
    return trained.bundle, config.parameters, (seen[-1] - seen[0]) * steps / (steps - 1)
