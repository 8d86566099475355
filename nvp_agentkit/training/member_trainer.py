"""Training one member: step while the pacer allows, keep the weights that validate best, calibrate.

A step whose loss or gradient is not finite is not taken: the run goes back to the state that validated best, halves its
learning rate and says so; after `LARGEST_SETBACKS` such steps it ends.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from nvp_agentkit.errors import InvalidField
from nvp_agentkit.fields.sequence import SequenceSet
from nvp_agentkit.model.bundle import ModelBundle
from nvp_agentkit.model.predict import LARGEST_BATCH
from nvp_agentkit.model.state import Variables, unpack
from nvp_agentkit.training.checkpoint import Checkpoint, Saver, first_checkpoint
from nvp_agentkit.training.evaluate import Forecasts, calibrated_ahead
from nvp_agentkit.training.examples import Examples
from nvp_agentkit.training.member_config import MemberConfig
from nvp_agentkit.training.pacing import Pacer
from nvp_agentkit.training.parent import Parent
from nvp_agentkit.training.spread import on_each_device, over_devices
from nvp_agentkit.training.start import fitted_start
from nvp_agentkit.training.step import TrainingState, train_step

Phase = Literal["validating", "training", "calibrating"]
Ended = Literal["pacer", "max_steps", "not_finite"]
LARGEST_SETBACKS = 8  # by then the rate is 1/256 of what was asked for, and the fault is not the rate


@dataclass(frozen=True)
class Progress:
    """One line of the story. ``loss`` is in units of persistence's; ``skill`` is on the validation set.

    ``note``: what went wrong in this step, and what was done about it.
    """

    phase: Phase
    step: int
    fraction: float
    loss: float | None = None
    skill: float | None = None
    vrmse: float | None = None
    baseline: str | None = None
    member: int = 0
    note: str | None = None


@dataclass(frozen=True)
class TrainedModel:
    """What a run made.

    Attributes:
        forecasts: of the kept weights on the validation set, calibrated as the bundle is.
        kept_step: the step whose weights are kept: 0 means that none beat the start.
        checkpoint: the run as it ended, to be resumed.
    """

    bundle: ModelBundle
    forecasts: Forecasts
    steps: int
    kept_step: int
    stopped_by: Ended
    history: tuple[Progress, ...]
    checkpoint: Checkpoint

    @property
    def state(self) -> TrainingState:
        return self.checkpoint.state


class MemberTrainer:
    """Trains the network of ``config`` on one set and selects and calibrates it on another."""

    def __init__(self, config: MemberConfig) -> None:
        self.config = config

    def fit(
        self,
        train: SequenceSet,
        validation: SequenceSet,
        pacer: Pacer,
        on_progress: Callable[[Progress], None] = lambda _: None,
        *,
        baselines: Mapping[str, float] | None = None,
        examples: Examples | None = None,
        parent: Parent | None = None,
        resume: Checkpoint | None = None,
        saving: Saver | None = None,
    ) -> TrainedModel:
        """Train until ``pacer`` or ``max_steps`` says stop; a step is never begun against the pacer's word.

        Args:
            train: what is learned from; its mask leaves cells out of the loss.
            validation: other trajectories on the same grid: selection of weights, calibration.
            pacer: the allowance, asked before every step.
            on_progress: told of every step (each has finished: the device is waited for) and validation.
            baselines: VRMSE of trivial forecasters on ``validation``; with them progress shows skill.
            examples: those of a run on the same data, with all that it has already found out about them.
            parent: whose weights are gone on from instead of fresh ones.
            resume: an earlier run with this configuration, data and parent; nothing of it is used up.
            saving: who keeps checkpoints on the way.

        Returns:
            The best weights of those validated (the untrained network, which is the best trivial forecaster
            it can be, is one of them), calibrated; the caller's pacer decided how many steps that took.

        Raises:
            InvalidField: trajectories too short, grids that differ, no valid cell.
            InvalidInput: a parent that is another network.
            ResultNotKept: the disk does not take a checkpoint.
        """
        known = examples or Examples.of(train, self.config)
        begun = resume or _begun(self.config, known, parent)
        recipe = self.config.to_dict() | ({} if parent is None else {"parent": parent.model_id})
        run = _Run(self.config, known, validation, pacer, begun, recipe, on_progress, baselines or {})
        return run.result(saving)


def _begun(config: MemberConfig, examples: Examples, parent: Parent | None) -> Checkpoint:
    """Before the first step: at the parent's weights, or as the best trivial forecaster that fresh ones can be."""
    if parent is not None:
        return first_checkpoint(config, parent.weights_for(config.model_config, config.features))
    batch = examples.batch(config.seed, 0, LARGEST_BATCH)
    return first_checkpoint(config, fitted_start(examples.network, config.first_variables(), batch))


class _Seen(NamedTuple):
    """Weights that were validated, and what they forecast."""

    vrmse: float
    step: int
    bundle: ModelBundle
    forecasts: Forecasts


class _Run:
    def __init__(
        self,
        config: MemberConfig,
        examples: Examples,
        validation: SequenceSet,
        pacer: Pacer,
        begun: Checkpoint,
        recipe: dict[str, Any],
        tell: Callable[[Progress], None],
        baselines: Mapping[str, float],
    ) -> None:
        data = examples.data
        if data.grid != validation.grid:
            raise InvalidField(f"training fields are {data.grid} cells, validation {validation.grid}; give one grid")
        self.config, self.examples, self.validation = config, examples, validation
        self.learning = replace(config, model_config=examples.network)
        self.pacer, self.tell, self.baselines = pacer, tell, dict(baselines)
        self.state, self.good, self.setbacks = self._own(begun.state), _on_host(begun.good), int(begun.setbacks)
        self.step = int(begun.state.step)
        self.history: list[Progress] = []
        self.bundle = ModelBundle(
            config.model_config, _averaged(config, self.good), examples.units, domain=data.meta.domain, recipe=recipe,
            beside=examples.beside_units,
        )  # fmt: skip
        self.best = self._validated(self.good)

    def result(self, saving: Saver | None) -> TrainedModel:
        stopped_by = self._train(saving)
        self.tell(Progress("calibrating", self.step, self._fraction()))
        calibration = self.best.forecasts.calibration()
        forecasts = self.best.forecasts.calibrated(calibration)
        score = forecasts.score(calibration, self.baselines)
        kept_step = self.best.step
        metrics = {"validation_vrmse": score.vrmse, "steps": float(self.step), "kept_step": float(kept_step)}
        metrics |= {f"validation_coverage_{100 * level:.0f}": share for level, share in score.coverage.items()}
        metrics["validation_budget_error_true"] = score.budget_error_true
        if score.budget_error_own is not None:
            metrics["validation_budget_error_own"] = score.budget_error_own
        if score.skill is not None:
            metrics["validation_skill"] = score.skill
        # A number that is none (a constant validation field has no VRMSE) is left out: it could not be stored.
        kept = {name: value for name, value in metrics.items() if math.isfinite(value)}
        calibration = calibrated_ahead(self.best.bundle, self.validation, calibration)
        novelty = self.examples.novelty(self.validation)
        coherence = forecasts.coherence(self.best.bundle)
        bundle = replace(self.best.bundle, calibration=calibration, metrics=kept, novelty=novelty, coherence=coherence)
        run = self._checkpoint()
        return TrainedModel(bundle, forecasts, self.step, kept_step, stopped_by, tuple(self.history), run)

    def _train(self, saving: Saver | None) -> Ended:
        seen = self._validation_due()
        while self.step < self.config.max_steps and self.setbacks < LARGEST_SETBACKS:
            if not self.pacer.may_continue(self.step):
                self._validate()
                return "pacer"
            self._advance()
            if self._validation_due() > seen:
                seen = self._validation_due()
                self._validate()
            if saving is not None and saving.due(self.step):
                saving.save(self._checkpoint(), self.config)
        self._validate()
        return "max_steps" if self.setbacks < LARGEST_SETBACKS else "not_finite"

    def _advance(self) -> None:
        batch = self.examples.batch(self.config.seed, self.step, self.config.batch_size)
        batch = over_devices(batch.ahead(self._length()), self.config.batch_size)
        self.state, loss = train_step(self.learning, self.state, batch, self._rate(), self.examples.step_variance)
        self.step += 1
        # float() waits for the step, so whoever meters it has all of it when told.
        found = _finite(float(loss))
        note = self._set_back() if found is None else None
        self._report(Progress("training", self.step, self._fraction(), loss=found, note=note))

    def _set_back(self) -> str:
        """To the last good state, with half the rate. Data go on: the same windows would break it again."""
        self.setbacks += 1
        self.state = self._own(self.good._replace(step=jnp.array(np.int32(self.step))))
        return (
            f"step {self.step} was not finite: back to the weights of step {int(self.good.step)}, "
            f"learning rate {self.config.learning_rate * 0.5**self.setbacks:g}"
        )

    def _own(self, state: TrainingState) -> TrainingState:
        """In buffers of its own, which a step may use up, on each device that takes part."""
        owned: TrainingState = jax.tree.map(jnp.array, _on_host(state))
        return on_each_device(owned, self.config.batch_size)

    def _checkpoint(self) -> Checkpoint:
        return Checkpoint(self.state, self.good, jnp.array(np.int32(self.setbacks)))

    def _rate(self) -> float:
        """Linear warm-up in steps, half a cosine in the share of the allowance used."""
        warm = min(1.0, (self.step + 1) / max(self.config.warmup_steps, 1))
        cooled = 0.5 * (1 + math.cos(math.pi * self._fraction()))
        return self.config.learning_rate * 0.5**self.setbacks * warm * cooled

    def _length(self) -> int:
        """Steps that the loss looks ahead: one at first, all in the last part of the allowance."""
        return min(1 + int(self._fraction() * self.config.rollout_steps), self.config.rollout_steps)

    def _fraction(self) -> float:
        return self.pacer.fraction_used(self.step)

    def _validation_due(self) -> int:
        """Index of the validation that is due; the last is done when training has stopped."""
        return min(int(self._fraction() * self.config.validations), self.config.validations - 1)

    def _validate(self) -> None:
        """Keep the weights as they are now if they forecast the validation set better than those kept so far."""
        if self.history[-1].phase == "validating" and self.history[-1].step == self.step:
            return
        now = _on_host(self.state)
        seen = self._validated(now)
        if seen.vrmse < self.best.vrmse:
            self.best, self.good = seen, now

    def _validated(self, state: TrainingState) -> _Seen:
        bundle = replace(self.bundle, variables=_averaged(self.config, state))
        forecasts = Forecasts.of(bundle, self.validation)
        score = forecasts.score(bundle.calibration, self.baselines)
        found = Progress("validating", int(state.step), self._fraction(), vrmse=_finite(score.vrmse))
        self._report(replace(found, skill=_finite(score.skill), baseline=score.baseline))
        return _Seen(score.vrmse if math.isfinite(score.vrmse) else math.inf, int(state.step), bundle, forecasts)

    def _report(self, progress: Progress) -> None:
        self.history.append(progress)
        self.tell(progress)


def _finite(value: float | None) -> float | None:
    """``value`` where it is a number: no reader of progress has to know NaN."""
    return value if value is not None and math.isfinite(value) else None


def _averaged(config: MemberConfig, state: TrainingState) -> Variables:
    return unpack(config.model_config, np.asarray(state.average))


def _on_host(state: TrainingState) -> TrainingState:
    """A copy that no step uses up."""
    copied: TrainingState = jax.tree.map(np.array, state)
    return copied
