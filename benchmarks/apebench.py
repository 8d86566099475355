"""APEBench's own 2-D scenarios: our network beside its Conv, Res, U-Net and FNO, its data and its metric.

64 points, batches of 8, 300 steps each, one seed; mean nRMSE over the ten steps after a first state nobody has seen.
Each is shown one state, which in these scenarios is all there is to know. Theirs are trained by APEBench, ours by its
own trainer; neither sees anything but the training trajectories. Where a state has two fields, ours is a network for
each that sees the other one in the place of the frame before. As many trajectories are made as the steps have use for,
48 and 30 at 300 steps. ``--steps`` and ``--scenarios``, the first so many, make it smaller, which the figures tell.
CPU-seconds are of one core, without what is compiled.
"""

from __future__ import annotations

import math
import time
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np

from benchmarks import apebench_peers
from benchmarks.cells import KEPT, Numbers, cell
from benchmarks.one_core import pin
from benchmarks.verdict import Figure
from nvp_agentkit.energy.sensors import WATTS_PER_CORE
from nvp_agentkit.fields.sequence import FieldMeta, Floats, SequenceSet
from nvp_agentkit.model import ModelBundle, NVPConfig, predict_next
from nvp_agentkit.training import MemberConfig, MemberTrainer, Progress, StepPacer
from nvp_agentkit.training.examples import Examples

SCENARIOS = ("phy_decay_turb", "phy_gs_type", "phy_kolm_flow")
PRESETS = {"conv": "Conv;26;10;relu", "res": "Res;26;8;relu", "u_net": "UNet;12;2;relu", "fno": "FNO;12;18;4;gelu"}
OURS = "ours"
SIZE, BATCH, STEPS = 64, 8, 300
QUICK_SIZE, QUICK_STEPS, QUICK_PRESET = 16, 10, {"fno": "FNO;4;8;2;gelu"}
VALIDATED = 64  # states of the training data on which ours chooses among its weights
UNITS = {"mean_nrmse": "nRMSE", "parameters": "", "cpu_s": "CPU-s", "forecast_cpu_s": "CPU-s", "joules": "J"}


class Plan(NamedTuple):
    """How much of everything."""

    steps: int = STEPS
    size: int = SIZE


def measure(*, quick: bool, steps: int | None = None, scenarios: int | None = None) -> dict[str, Figure]:
    """Quick: a few steps of a tiny network in one scenario, held to nothing; the environment is made the first time."""
    pin()
    plan = Plan(QUICK_STEPS, QUICK_SIZE) if quick else Plan(steps or STEPS)
    presets = QUICK_PRESET if quick else PRESETS
    found = {name: _scenario(name, plan, presets) for name in SCENARIOS[: 1 if quick else scenarios]}
    told = {
        "scenarios": Figure(len(found), f"of {len(SCENARIOS)}", goal=len(SCENARIOS), higher_is_better=True),
        "steps": Figure(plan.steps, "of training", goal=STEPS, higher_is_better=True),
        "points": Figure(plan.size, "a side", goal=SIZE, higher_is_better=True),
    }
    return told | _figures(found, held=not quick)


def _figures(found: dict[str, dict[str, Numbers]], *, held: bool) -> dict[str, Figure]:
    """The best preset over ours: of the geometric mean, of each scenario, and of each by weights and by joules."""
    least = 1.0 if held else None
    figures: dict[str, Figure] = {}
    presets = [name for name in next(iter(found.values())) if name not in (OURS, "persistence")]
    means = {name: _geometric([cells[name]["mean_nrmse"] for cells in found.values()]) for name in (OURS, *presets)}
    best = min(presets, key=means.__getitem__)
    figures["best_preset/over_ours"] = Figure(means[best] / means[OURS], "x", least, higher_is_better=True)
    for scenario, cells in found.items():
        rival = min(cells[name]["mean_nrmse"] for name in presets)
        ratio = rival / cells[OURS]["mean_nrmse"]
        figures[f"{scenario}/best_preset/over_ours"] = Figure(ratio, "x", goal=least, higher_is_better=True)
        for what in ("parameters", "joules"):
            rival = min(cells[name]["mean_nrmse"] * cells[name][what] for name in presets)
            ratio = rival / (cells[OURS]["mean_nrmse"] * cells[OURS][what])
            figures[f"{scenario}/by_{what}/over_ours"] = Figure(ratio, "x", goal=least, higher_is_better=True)
    figures |= {f"geometric_mean/{name}": Figure(mean, "nRMSE") for name, mean in means.items()}
    for scenario, cells in found.items():
        for name, numbers in cells.items():
            figures |= {f"{scenario}/{name}/{what}": Figure(value, UNITS[what]) for what, value in numbers.items()}
    return figures


def _geometric(errors: list[float]) -> float:
    return math.exp(float(np.mean(np.log(errors))))


def _scenario(scenario: str, plan: Plan, presets: dict[str, str]) -> dict[str, Numbers]:
    """Numbers of each network, those of training priced."""
    folder = KEPT / f"apebench-{scenario}-{plan.steps}-{plan.size}"
    folder.mkdir(parents=True, exist_ok=True)
    theirs = partial(apebench_peers.run, folder, scenario=scenario, steps=plan.steps, size=plan.size)
    data = cell("apebench_peers", f"{scenario}-data", plan, partial(theirs, "data"), ours=False)
    found = {
        name: cell("apebench_peers", f"{scenario}-{name}", [*plan, preset], partial(theirs, preset), ours=False)
        for name, preset in presets.items()
    }
    found[OURS] = cell("apebench", f"{scenario}-ours", plan, partial(_ours, scenario, plan, folder))
    priced = {name: numbers | {"joules": numbers["cpu_s"] * WATTS_PER_CORE} for name, numbers in found.items()}
    return priced | {"persistence": {"mean_nrmse": data["persistence"]}}


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
        now = np.stack([predict_next(one, _shown(now, place))[0] for place, one in enumerate(bundles)], 1)
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


def _shown(state: Floats, place: int) -> Floats:
    """Of states (N, C, H, W) the frames that the network of one field sees: the other fields, then its own."""
    return np.concatenate([np.delete(state, place, 1), state[:, place, None]], 1)


def _trained(place: int, train: Floats, steps: int) -> tuple[ModelBundle, int, float]:
    """The network of one field of ``train`` (N, T, C, H, W), its weights' number, and what training it took."""
    before, after = (part.reshape(-1, *train.shape[2:]) for part in (train[:, :-1], train[:, 1:]))
    meta = FieldMeta("apebench", boundary=("periodic", "periodic"))
    pairs = SequenceSet(np.concatenate([_shown(before, place), after[:, place, None]], 1), None, meta)
    network = NVPConfig(context_frames=pairs.frames - 1, boundary=meta.boundary, positive=False)
    config = MemberConfig(network, batch_size=BATCH)
    examples = Examples.of(pairs, config)
    # The loss is in units of persistence's, and the frame before may be another field.
    examples.step_variance = float(np.mean((after - before)[:, place] ** 2) / examples.units.scale**2)
    seen: list[float] = []

    def note(progress: Progress) -> None:
        if progress.phase == "training":
            seen.append(time.process_time())

    validated = pairs.select(slice(None, None, max(1, len(pairs) // VALIDATED)))
    trained = MemberTrainer(config).fit(pairs, validated, StepPacer(steps), note, examples=examples)
    return trained.bundle, config.parameters, (seen[-1] - seen[0]) * steps / (steps - 1)
