"""Training epoch by epoch with the founding document's interface, loss and files.

A job on the stack trains by `MemberTrainer`, under a budget and with a proper score. This one is for whoever trains in
their own process and wants the document's terms, another norm, or its own network.
"""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any, cast

import jax
import jax.numpy as jnp
import numpy as np
import numpy.typing as npt

from nvp_agentkit.errors import InvalidField, InvalidInput
from nvp_agentkit.fields.sequence import Floats
from nvp_agentkit.model.bundle import ModelBundle, Normalization
from nvp_agentkit.model.predict import LARGEST_BATCH, origins
from nvp_agentkit.model.state import TrainState, Variables, create_train_state
from nvp_agentkit.model.storage import write_atomically
from nvp_agentkit.training import epoch_step
from nvp_agentkit.training.config import TrainingConfig, TrainingMetrics
from nvp_agentkit.training.data import TrainingData, WindowBatch, cut, hold_back, require_usable, windows_of
from nvp_agentkit.training.epoch_checkpoint import Best, EpochRun, History, load_run, record, save_run
from nvp_agentkit.training.epoch_step import Knobs, Terms
from nvp_agentkit.training.examples import Batch, epoch_order
from nvp_agentkit.training.member_trainer import LARGEST_SETBACKS
from nvp_agentkit.training.parent import Parent
from nvp_agentkit.training.spread import on_each_device, over_devices
from nvp_agentkit.training.start import fitted_start

TOLD_EVERY = 10  # steps
Tell = Callable[[str], None]


class Trainer:
    """Session S2's trainer.

    Attributes:
        state: weights and optimiser; ``state.params`` holds running averages of a batch normalisation as well.
        units: of the network, fitted to the training data by `train`; until then the network sees fields as they are.
        epoch: epochs done; `train` goes on from here, also after `load_checkpoint`, with the same numbers.
        history: metrics by epoch, ``train`` and ``val``.
    """

    def __init__(self, config: TrainingConfig, may_continue: Callable[[int], bool] = lambda _: True) -> None:
        """``may_continue`` is asked before each step, with the steps done: no ends training as if all epochs were."""
        self.config, self._asked = config, may_continue
        state = create_train_state(
            jax.random.key(config.seed), config.model_config, config.learning_rate, optimiser_name=config.optimiser
        )
        # Arrays from the start, step count included: NumPy's types would compile the first step apart.
        self.state: TrainState = jax.tree.map(lambda leaf: jnp.asarray(np.asarray(leaf)), state)
        self.units = Normalization()
        self.epoch = 0
        self.history: History = {"train": [], "val": []}
        self._best: Best | None = None
        self._good, self._setbacks, self._weights_of = self.state, 0, 0
        self._parent: str | None = None
        self.folder = Path(config.checkpoint_dir)
        self.folder.mkdir(parents=True, exist_ok=True)

    @property
    def variables(self) -> Variables:
        """Weights, and running averages where there are any: what ``model.apply`` takes."""
        return cast(Variables, self.state.params)

    def compute_loss(self, params: Variables, batch: WindowBatch, training: bool) -> tuple[jax.Array, Terms]:
        """L and its terms, means over the batch; ``training`` switches dropout and batch statistics on."""
        terms = epoch_step.loss(self.config.objective, params, batch, self._knobs(), training, self.state.step)
        means = epoch_step.summary(terms)
        return means["total_loss"], means

    def train_step(self, state: TrainState, batch: WindowBatch) -> tuple[TrainState, Terms]:
        """The state after one update, and the metrics of the batch before it."""
        after: tuple[TrainState, Terms] = epoch_step.update(self.config.objective, state, batch, self._knobs())
        return after

    def val_step(self, state: TrainState, batch: WindowBatch) -> Terms:
        """The metrics of a batch, deterministic."""
        return self.compute_loss(cast(Variables, state.params), batch, training=False)[1]

    def prepare_batch(self, energy_sequence: Floats, gradients: Floats, indices: npt.ArrayLike) -> WindowBatch:
        """The windows of these numbers (`data.cut`) of sequences (N, T, H, W), or of one (T, H, W)."""
        if energy_sequence.ndim == 3:
            energy_sequence, gradients = energy_sequence[None], gradients[None]
        return cut(energy_sequence, gradients, indices, self.config.model_config.context_frames)

    def train(
        self,
        train_data: TrainingData,
        val_data: TrainingData | None = None,
        verbose: bool = True,
        parent: Parent | None = None,
    ) -> History:
        """Train up to ``num_epochs``, with a checkpoint every ``checkpoint_every``, a final one and metrics as JSON.

        Args:
            train_data: from `prepare_training_data`.
            val_data: others on the same grid; None: ``validation_split`` of the sequences, the last ones.
            verbose: print a line every ten steps and every epoch.
            parent: whose weights are gone on from; it counts at the first epoch alone.

        Raises:
            InvalidField: too little data for a batch, a window or a validation set, or values that are not finite.
            InvalidInput: a parent that is another network.
            InvalidInput: the loss is no number, whatever the rate: after each such step the last epoch's weights were
                taken again and the rate was halved. The last checkpoint stays.
        """
        tell = print if verbose else _say_nothing
        train, val = self._parted(TrainingData(*train_data), val_data)
        if not self.epoch:
            self._begin(train, parent)
        self.state = on_each_device(self.state, self.config.batch_size)
        while self.epoch < self.config.num_epochs and self._may_continue():
            if not self._one_epoch(train, val, tell):
                continue
            if self.epoch % self.config.checkpoint_every == 0:
                self.save_checkpoint(self.epoch)
            if self._worse_for_long():
                tell(f"No better for {self.config.patience} epochs: stopped, the best weights are taken")
                break
        if self.config.patience is not None and self._best is not None:
            self.state, self._weights_of = self.state.replace(params=self._best.params), self._best.epoch
        self.save_checkpoint(self.epoch, final=True)
        self.save_metrics()
        return self.history

    def save_checkpoint(self, epoch: int, final: bool = False) -> Path:
        """Write weights, optimiser and history to ``checkpoint_dir``, whole or not at all; where to."""
        path = self.folder / ("final.safetensors" if final else f"epoch_{epoch:04d}.safetensors")
        run = EpochRun(
            self.state, epoch, self.units, self.history, self._best, self._setbacks, self._weights_of, self._parent
        )
        save_run(run, self.config, path)
        return path

    def load_checkpoint(self, checkpoint_path: str | Path) -> None:
        """Take up the run where `save_checkpoint` left it; more epochs may be asked for, or another learning rate.

        Raises:
            InvalidFile: missing, truncated, foreign or of another configuration; nothing is changed then.
        """
        run = load_run(self.state, self.config, checkpoint_path)
        self.state, self.epoch, self.units, self.history = run.state, run.epoch, run.units, run.history
        self._best, self._setbacks, self._weights_of, self._parent = run.best, run.setbacks, run.weights_of, run.parent

    def save_metrics(self) -> Path:
        """Write the history as ``metrics.json`` in ``checkpoint_dir``; where to."""
        path = self.folder / "metrics.json"
        write_atomically(path, json.dumps(record(self.config, self.history), indent=2, allow_nan=False).encode())
        return path

    def bundle(self, domain: str = "unknown") -> ModelBundle:
        """The network as a model that can be stored, served and evaluated; its doubt is not calibrated yet."""
        told = ((part, one) for part, epochs in self.history.items() for one in epochs if one.epoch == self._weights_of)
        metrics = {
            f"{part}_{name}": float(value)
            for part, one in told
            for name, value in asdict(one).items()
            if name not in ("epoch", "training_time_s")
        }
        return ModelBundle(
            self.config.model_config, self.variables, self.units,
            domain=domain, recipe=self._recipe(), metrics=metrics,
        )  # fmt: skip

    def _recipe(self) -> dict[str, Any]:
        return self.config.to_dict() | ({} if self._parent is None else {"parent": self._parent})

    def _knobs(self) -> Knobs:
        units, share = self.units, np.float32(0.5**self._setbacks)
        return Knobs(np.float32(units.offset), np.float32(units.scale), np.uint32(self.config.seed), share)

    def _begin(self, train: TrainingData, parent: Parent | None) -> None:
        """Fit units; without a parent the default topology starts as the best trivial forecaster that it can be."""
        units, network = Normalization.fit(train.energy), self.config.model_config
        self.units = units
        if parent is not None:
            weights, self._parent = parent.weights_for(network), parent.model_id
            self.state = self.state.replace(params=jax.tree.map(jnp.array, weights))
            return
        if network.document_grid is not None:
            return
        first = self._order(train, epoch=0)[:LARGEST_BATCH]
        batch = self.prepare_batch(*train, first)
        frames, target = (
            np.asarray((maps - units.offset) / units.scale, np.float32)
            for maps in (batch["energy_t"], batch["energy_next"][..., 0])
        )
        known = Batch(frames, np.ones_like(frames), origins(network, frames), target, np.ones_like(target))
        params = fitted_start(network, self.variables, known)
        self.state = self.state.replace(params=jax.tree.map(jnp.asarray, params))

    def _parted(self, train: TrainingData, val: TrainingData | None) -> tuple[TrainingData, TrainingData | None]:
        """What to train on and what to validate on, refused where they hold too little."""
        if val is None and self.config.validation_split:
            train, val = hold_back(train, self.config.validation_split)
        require_usable(train, val, self.config.model_config.context_frames)
        count, size = len(self._order(train, epoch=0)), self.config.batch_size
        if count < size:
            raise InvalidField(f"batch_size is {size}, the training data hold {count} windows; give at most {count}")
        return train, val

    def _order(self, train: TrainingData, epoch: int) -> npt.NDArray[np.int64]:
        """Windows by number, as an epoch takes them."""
        return epoch_order(windows_of(train.energy, self.config.model_config.context_frames), self.config.seed, epoch)

    def _may_continue(self) -> bool:
        return self._asked(int(self.state.step))

    def _one_epoch(self, train: TrainingData, val: TrainingData | None, tell: Tell) -> bool:
        """Whether it was gone through; else all is as it was before, but for the rate."""
        began_s, size = time.monotonic(), self.config.batch_size
        where, self._good = f"Epoch {self.epoch + 1}/{self.config.num_epochs}", self.state
        order = self._order(train, self.epoch)
        seen: list[Terms] = []
        for step in range(1, len(order) // size + 1):
            if step > 1 and not self._may_continue():
                break
            batch = over_devices(self.prepare_batch(*train, order[(step - 1) * size : step * size]), size)
            self.state, means = self.train_step(self.state, batch)
            loss, fidelity = (float(means[name]) for name in ("total_loss", "energy_fidelity"))
            if not math.isfinite(loss):
                self._set_back(f"{where}, Step {step}", tell)
                return False
            seen.append(means)
            if step % TOLD_EVERY == 0:
                tell(f"{where}, Step {step}, Loss: {loss:.4f}, Fidelity: {fidelity:.2f}")
        parts = {"train": _mean(seen)} | ({} if val is None else {"val": self._validated(val)})
        if not all(math.isfinite(float(terms["total_loss"])) for terms in parts.values()):
            self._set_back(f"{where}, validation", tell)
            return False
        self.epoch += 1
        took_s = time.monotonic() - began_s
        for part, terms in parts.items():
            figures = {name: float(value) for name, value in terms.items()}
            self.history[part].append(TrainingMetrics(self.epoch, training_time_s=took_s, **figures))
            tell(f"{where}, {part}: {self.history[part][-1]}")
        self._weights_of = self.epoch
        judge = "train" if val is None else "val"
        self._judge(self.history[judge][-1].total_loss)
        return True

    def _set_back(self, where: str, tell: Tell) -> None:
        """To the weights that this epoch began with, which is gone through again at half the rate."""
        self.state = self._good.replace(step=self.state.step)
        self._setbacks += 1
        rate = self.config.learning_rate * 0.5**self._setbacks
        if self._setbacks == LARGEST_SETBACKS:
            self._setbacks = 0  # whoever trains on, with other data, does so at the whole rate
            raise InvalidInput(
                f"the loss is no number in {where}, at learning rate {2 * rate:g} either: lower learning_rate "
                f"({self.config.learning_rate:g}), look for values in the data that are far beyond the rest, and go on "
                f"from the last checkpoint in {self.folder} if there is one"
            )
        tell(f"{where}: the loss is no number; back to the weights of epoch {self.epoch}, learning rate {rate:g}")

    def _validated(self, val: TrainingData) -> Terms:
        """Means over every window, in batches of one shape."""
        count, size = windows_of(val.energy, self.config.model_config.context_frames), self.config.batch_size
        numbers = np.resize(np.arange(count), -(-count // size) * size)
        parts = [
            epoch_step.loss(
                self.config.objective, self.variables, over_devices(self.prepare_batch(*val, some), size),
                self._knobs(), False, self.state.step,
            )
            for some in np.split(numbers, len(numbers) // size)
        ]  # fmt: skip
        return epoch_step.summary({name: jnp.concatenate([one[name] for one in parts])[:count] for name in parts[0]})

    def _judge(self, loss: float) -> None:
        """Remember the best weights where somebody is patient, and since when there are none better."""
        if self._best is None or loss < self._best.loss:
            self._best = Best(loss, self.epoch, self.variables)

    def _worse_for_long(self) -> bool:
        patience = self.config.patience
        return patience is not None and self._best is not None and self.epoch - self._best.epoch >= patience


def _mean(steps: list[Terms]) -> Terms:
    """Of an epoch's batches, which are of one size."""
    means = {name: jnp.mean(jnp.stack([one[name] for one in steps])) for name in steps[0]}
    return means | {"rmse": jnp.sqrt(means["mse_loss"])}


def _say_nothing(_: str) -> None:
    pass
