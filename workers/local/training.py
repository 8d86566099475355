"""``python -m workers.local.training OPTIONS``: one network trained in this process, without stack or account.

The founding document's training script: its trainer, its lines, its success criteria. Beside them the figures of a
forecast that repeats the last frame, and skill over the best trivial one. ``OPTIONS`` is JSON from `nvp train`, which
becomes this program.
"""

from __future__ import annotations

import json
import statistics
import sys
import tempfile
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

from nvp_agentkit.domains import get_domain
from nvp_agentkit.energy.budget import require_useful
from nvp_agentkit.energy.sensors import named_sensor
from nvp_agentkit.errors import InvalidInput
from nvp_agentkit.fields import metrics
from nvp_agentkit.fields.baselines import score_baselines
from nvp_agentkit.fields.readers import Meant, take_in
from nvp_agentkit.fields.sequence import SequenceSet
from nvp_agentkit.fields.split import Split, held_out, split
from nvp_agentkit.fields.storage import open_sequences
from nvp_agentkit.model import ModelBundle, save_model
from nvp_agentkit.settings import Settings
from nvp_agentkit.training import MemberConfig, Parent, Trainer, TrainingConfig, prepare_training_data
from nvp_agentkit.training.evaluate import Forecasts, calibrated_ahead
from nvp_agentkit.training.examples import Examples, all_windows
from nvp_agentkit.training.members import network_for

from ..compute.operations.data import COMPILE_CPU_S
from ..compute.operations.prices import BUSY, Prices
from ..compute.spending import Allowance, Spending
from . import programs as local

UNBOUNDED_J = 1e9
TOLD = 5  # lines on a simulation
FOLDERS = (Path("data"), Path())  # where data are looked for, and by which names
SUFFIXES = (".npz", ".npy", ".h5", ".hdf5", ".nc", ".zarr")
VARIANCE_WEIGHT = 0.1  # the document's loss alone would leave the forecast without a spread
CRITERIA = {"Energy Fidelity > 0.90": 0.90, "RMSE < 0.1": 0.1, "Entropy Coherence > 0.85": 0.85}


@dataclass(frozen=True)
class Options:
    """As `nvp train` takes them."""

    domain: str
    epochs: int
    batch_size: int
    lr: float
    budget_j: float | None
    data: str | None
    array: str | None
    trajectories: int
    frames: int
    size: int
    seed: int
    parent: str | None
    out: str
    as_json: bool


class Verdict(NamedTuple):
    """On sequences that no epoch saw. ``criteria``: name -> (this model's figure, doing nothing's)."""

    criteria: dict[str, tuple[float, float]]
    vrmse: float
    skill: float
    baseline: str
    baseline_vrmse: float


def train(options: Options, settings: Settings) -> dict[str, Any]:
    """Print the document's lines while training; what was found, as plain JSON.

    Raises:
        BudgetExhausted, BudgetTooSmall: the budget does not reach to the data, or not beyond.
        NvpError: data, domain or figures that cannot be trained on, a parent that cannot be gone on from.
    """
    watts_per_core, sensor = settings.watts_per_core, named_sensor(settings)
    parent = None if options.parent is None else Parent.read(options.parent)
    config = TrainingConfig(
        batch_size=options.batch_size,
        num_epochs=options.epochs,
        learning_rate=options.lr,
        variance_weight=VARIANCE_WEIGHT,
        checkpoint_dir=options.out,
        seed=options.seed,
    )
    if options.data is None and (lies_here := _found(options.domain)) is not None:
        print(f"Found {lies_here}")
        options = replace(options, data=str(lies_here))
    if options.data is None:
        _require_windows(options, (parent.bundle.config if parent else config.model_config).context_frames)
    budget_j = UNBOUNDED_J if options.budget_j is None else options.budget_j
    spending = Spending(round(1000 * budget_j), watts_per_core, sensor=sensor)
    begun_mj = 0.0 if options.data else 1000 * watts_per_core * COMPILE_CPU_S  # of a simulator
    _require(spending, begun_mj, Prices.on(watts_per_core=watts_per_core))
    print(f"Training NVP model on domain: {options.domain}")
    with tempfile.TemporaryDirectory() as folder:
        parts = split(_data(options, spending, Path(folder)))
        trainer, stopped_by = _trained(config, parts, parent, spending, watts_per_core)
        found, model = _judged(trainer, parts), Path(options.out) / "model.safetensors"
        model_id = save_model(_calibrated(trainer, parts), model)
    reading = spending.reading()
    document = {
        "model_id": model_id, "model": str(model), "epochs": trainer.epoch, "stopped_by": stopped_by,
        "skill": found.skill, "vrmse": found.vrmse, "baseline": found.baseline,
        "criteria": {name: {"model": ours, "doing_nothing": idle} for name, (ours, idle) in found.criteria.items()},
        "mj": reading.mj, "method": reading.method,
    }  # fmt: skip
    _tell(document, found, options.budget_j)
    return document


def _found(domain: str) -> Path | None:
    """The file of this domain's sequences that lies in the folder ``data``, or here; None: there is none.

    Raises:
        InvalidInput: there are several.
    """
    for folder in FOLDERS:
        inside = folder.iterdir() if folder.is_dir() else ()
        found = sorted(path for path in inside if path.stem == domain and path.suffix in SUFFIXES)
        if len(found) > 1:
            raise InvalidInput(f"{folder} has {', '.join(path.name for path in found)}; say which with --data")
        if found:
            return found[0]
    return None


def _require_windows(options: Options, context: int) -> None:
    """Raises `InvalidInput` where what would be simulated has no whole batch; said before it is."""
    trajectories = options.trajectories - 2 * held_out(options.trajectories)
    windows = trajectories * max(options.frames - context, 0)
    if windows < options.batch_size:
        raise InvalidInput(
            f"--batch-size is {options.batch_size}, and {options.trajectories} trajectories of {options.frames} frames "
            f"give {windows} windows to train on: lower it, or raise --trajectories or --frames"
        )


def _data(options: Options, spending: Spending, folder: Path) -> SequenceSet:
    if options.data is not None:
        file = folder / "sequences"
        take_in(Path(options.data), file, Meant(options.domain), array=options.array)
        sequences = open_sequences(file)
        print(f"Loaded {len(sequences)} sequences")
        return sequences
    domain, allowance = get_domain(options.domain), Allowance(spending)
    made = f"{options.trajectories} sequences of {options.frames} frames ({domain.description})"
    print(f"No --data given, and no {options.domain}.npz or the like lies here: making {made}")

    def progress(done: int, total: int) -> None:
        allowance.require(done, f"simulating {options.domain}")
        if TOLD * done // total > TOLD * (done - 1) // total:
            print(f"  step {done:,} of {total:,}, {spending.used_mj / 1000:.1f} J")

    sequences = domain.simulate(options.trajectories, options.frames, options.size, options.seed, progress)
    print(f"Made {len(sequences)} sequences for {spending.used_mj / 1000:.1f} J {spending.reading().method}")
    return sequences


def _trained(
    config: TrainingConfig, parts: Split, parent: Parent | None, spending: Spending, watts_per_core: float
) -> tuple[Trainer, str]:
    """The trainer when it has ended, and what ended it; what judging will cost is kept back."""
    meta = parts.train.meta
    network = parent.network(meta, masked=False) if parent else network_for(meta, masked=False)
    train, validation = prepare_training_data(parts.train), prepare_training_data(parts.validation)
    print(f"Training data shape:\n  Energy: {train.energy.shape}\n  Gradients: {train.gradients.shape}\n")
    allowance = OneNetworkAllowance(spending, Prices.of(parts, MemberConfig(network), watts_per_core=watts_per_core))
    trainer = Trainer(replace(config, model_config=network), may_continue=allowance.may_continue)
    print("Compiling: the first step takes longest")
    trainer.train(train, validation, parent=parent)
    return trainer, allowance.stopped_by or "epochs"


class OneNetworkAllowance(Allowance):
    """Steps may be taken while four of them, and what judging will cost, still fit.

    By the median of the last steps: some compile, or end an epoch.
    """

    def __init__(self, spending: Spending, prices: Prices) -> None:
        """Raises `BudgetTooSmall` where not even one step and its judgement fit."""
        super().__init__(spending)
        _require(spending, spending.used_mj, prices)
        self._kept_mj, self._costs_mj = _to_judge_mj(prices), deque([prices.step_mj], maxlen=32)

    def may_continue(self, step: int) -> bool:
        cost_mj = self._since_last()
        if step:
            self._costs_mj.append(cost_mj)
        return self._fits(self._kept_mj + 4 * statistics.median(self._costs_mj))


def _require(spending: Spending, before_mj: float, prices: Prices) -> None:
    """Raises `BudgetTooSmall` where not even one step and its judgement fit after ``before_mj`` are spent."""
    least_mj = before_mj + BUSY * (prices.opening_mj + prices.compile_mj) + _to_judge_mj(prices)
    require_useful(spending.granted_mj, round(least_mj), "a network that is trained at all and judged")


def _to_judge_mj(prices: Prices) -> float:
    return 2 * prices.opening_mj + prices.baselines_mj + 4 * prices.pass_mj + prices.closing_mj


def _calibrated(trainer: Trainer, parts: Split) -> ModelBundle:
    bundle = trainer.bundle(parts.train.meta.domain)
    told = Forecasts.of(bundle, parts.validation)
    first = told.calibration()
    known = Examples(parts.train, bundle.config, bundle.normalization, max(parts.train.grid))
    return replace(
        bundle,
        calibration=calibrated_ahead(bundle, parts.validation, first),
        novelty=known.novelty(parts.validation),
        coherence=told.calibrated(first).coherence(bundle),
    )


def _judged(trainer: Trainer, parts: Split) -> Verdict:
    bundle, context = trainer.bundle(), trainer.config.model_config.context_frames
    frames, _, came, _ = all_windows(parts.test, context)
    mean, idle = Forecasts.of(bundle, parts.test).mean, frames[:, -1]
    baselines = score_baselines(parts.train, parts.test, context)
    best = min(baselines, key=baselines.__getitem__)
    vrmse = metrics.vrmse(mean, came)
    judges: tuple[Callable[..., float], ...] = (
        metrics.energy_fidelity, partial(_in_spreads, trainer.units.scale), metrics.entropy_coherence,
    )  # fmt: skip
    criteria = {name: (judge(mean, came), judge(idle, came)) for name, judge in zip(CRITERIA, judges, strict=True)}
    return Verdict(criteria, vrmse, metrics.skill(vrmse, baselines[best]), best, baselines[best])


def _in_spreads(scale: float, predicted: metrics.Array, came: metrics.Array) -> float:
    return metrics.rmse(predicted, came) / scale


def _tell(document: dict[str, Any], found: Verdict, budget_j: float | None) -> None:
    print(f"Training complete: {document['epochs']} epochs, ended by {document['stopped_by']}\n")
    print(f"{'Success Criteria:':<28}this model  doing nothing")
    for name, figures in found.criteria.items():
        ours, idle = (f"{'✓' if (f < CRITERIA[name]) == ('<' in name) else '✗'} {f:.3f}" for f in figures)
        print(f"  {name + ':':<26}{ours:<12}{idle}")
    print("Where doing nothing meets them they say nothing. What counts, on sequences that no epoch saw:")
    print(f"  skill {found.skill:+.3f} over {found.baseline}, the best trivial forecaster", end=" ")
    print(f"(VRMSE {found.vrmse:.4f} against {found.baseline_vrmse:.4f})")
    granted = "" if budget_j is None else f" of {budget_j:,.1f} J"
    print(f"Used {document['mj'] / 1000:,.1f} J{granted}, {document['method']}. The model: {document['model']}")


def main(arguments: list[str]) -> int:
    options = Options(**json.loads(arguments[0]))
    return local.answer(lambda: train(options, Settings.from_env()), as_json=options.as_json)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
