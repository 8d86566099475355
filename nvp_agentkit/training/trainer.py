"""Training one member: step while the pacer allows, keep the weights that validate best, calibrate."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Literal

import jax
import jax.numpy as jnp
import numpy as np

from nvp_agentkit.errors import InvalidField
from nvp_agentkit.fields.sequence import SequenceSet
from nvp_agentkit.model.bundle import ModelBundle, Normalization
from nvp_agentkit.model.calibration import calibrate
from nvp_agentkit.model.predict import predict_next
from nvp_agentkit.model.state import Variables, initial_variables, unpack
from nvp_agentkit.training.config import TrainingConfig
from nvp_agentkit.training.evaluate import evaluate
from nvp_agentkit.training.examples import Examples, all_windows
from nvp_agentkit.training.pacing import Pacer
from nvp_agentkit.training.start import fitted_start
from nvp_agentkit.training.step import TrainingState, first_state, train_step

Phase = Literal["validating", "training", "calibrating"]


@dataclass(frozen=True)
class Progress:
    """One line of the story. ``loss`` is in units of persistence's; ``skill`` is on the validation set."""

    phase: Phase
    step: int
    fraction: float
    loss: float | None = None
    skill: float | None = None
    vrmse: float | None = None
    baseline: str | None = None
    member: int = 0


@dataclass(frozen=True)
class TrainedModel:
    """What a run made. ``kept_step`` is the step whose weights are kept: 0 means that none beat the start."""

    bundle: ModelBundle
    steps: int
    kept_step: int
    stopped_by: Literal["pacer", "max_steps"]
    history: tuple[Progress, ...]
    state: TrainingState


class Trainer:
    """Trains the network of ``config`` on one set and selects and calibrates it on another."""

    def __init__(self, config: TrainingConfig) -> None:
        self.config = config

    def fit(
        self,
        train: SequenceSet,
        validation: SequenceSet,
        pacer: Pacer,
        on_progress: Callable[[Progress], None] = lambda _: None,
        *,
        baselines: Mapping[str, float] | None = None,
        resume: TrainingState | None = None,
    ) -> TrainedModel:
        """Train until ``pacer`` or ``max_steps`` says stop; a step is never begun against the pacer's word.

        Args:
            train: what is learned from; its mask leaves cells out of the loss.
            validation: other trajectories on the same grid: selection of weights, calibration.
            pacer: the allowance, asked before every step.
            on_progress: told of every step (each has finished: the device is waited for) and validation.
            baselines: VRMSE of trivial forecasters on ``validation``; with them progress shows skill.
            resume: the state of an earlier run with this configuration.

        Returns:
            The best weights of those validated (the untrained network, which is the best trivial forecaster
            it can be, is one of them), calibrated; the caller's pacer decided how many steps that took.

        Raises:
            InvalidField: trajectories too short, grids that differ, no valid cell.
        """
        run = _Run(self.config, train, validation, pacer, tell=on_progress, baselines=baselines, resume=resume)
        return run.result()


class _Run:
    def __init__(
        self,
        config: TrainingConfig,
        train: SequenceSet,
        validation: SequenceSet,
        pacer: Pacer,
        *,
        tell: Callable[[Progress], None],
        baselines: Mapping[str, float] | None,
        resume: TrainingState | None,
    ) -> None:
        if train.grid != validation.grid:
            raise InvalidField(f"training fields are {train.grid} cells, validation {validation.grid}; give one grid")
        self.config, self.validation, self.pacer, self.tell = config, validation, pacer, tell
        self.baselines = dict(baselines or {})
        units = Normalization.fit(train.values, train.mask)
        self.examples = Examples(train, config.model_config, units, config.crop)
        self.state = _own_copy(resume) if resume is not None else self._first()
        self.step = int(self.state.step)
        self.history: list[Progress] = []
        self.best: tuple[float, int, Variables] = (math.inf, self.step, self._averaged())
        self.bundle = ModelBundle(
            config.model_config, self.best[2], units, domain=train.meta.domain, recipe=config.to_dict()
        )

    def _first(self) -> TrainingState:
        fresh = initial_variables(self.config.model_config, self.config.seed)
        return first_state(self.config, fitted_start(self.config, fresh, self.examples))

    def result(self) -> TrainedModel:
        self._validate()
        stopped_by = self._train()
        self.tell(Progress("calibrating", self.step, self._fraction()))
        error, kept_step, variables = self.best
        bundle = self._calibrated(replace(self.bundle, variables=variables))
        score = evaluate(bundle, self.validation, self.baselines)
        metrics = {"validation_vrmse": error, "steps": float(self.step), "kept_step": float(kept_step)}
        metrics |= {f"validation_coverage_{100 * level:.0f}": share for level, share in score.coverage.items()}
        if score.skill is not None:
            metrics["validation_skill"] = score.skill
        # A number that is none (a constant validation field has no VRMSE) is left out: it could not be stored.
        bundle = replace(bundle, metrics={name: value for name, value in metrics.items() if math.isfinite(value)})
        return TrainedModel(bundle, self.step, kept_step, stopped_by, tuple(self.history), self.state)

    def _train(self) -> Literal["pacer", "max_steps"]:
        seen = self._quarter()
        while self.step < self.config.max_steps:
            if not self.pacer.may_continue(self.step):
                self._validate()
                return "pacer"
            self._advance()
            if self._quarter() > seen:
                seen = self._quarter()
                self._validate()
        self._validate()
        return "max_steps"

    def _advance(self) -> None:
        batch = self.examples.batch(self.config.seed, self.step, self.config.batch_size)
        self.state, loss = train_step(self.config, self.state, batch, self._rate(), self.examples.step_variance)
        self.step += 1
        # float() waits for the step, so whoever meters it has all of it when told.
        self._report(Progress("training", self.step, self._fraction(), loss=_finite(float(loss))))

    def _rate(self) -> float:
        """Linear warm-up in steps, half a cosine in the share of the allowance used."""
        warm = min(1.0, (self.step + 1) / max(self.config.warmup_steps, 1))
        return self.config.learning_rate * warm * 0.5 * (1 + math.cos(math.pi * self._fraction()))

    def _fraction(self) -> float:
        return self.pacer.fraction_used(self.step)

    def _quarter(self) -> int:
        """Index of the validation that is due; the last is done when training has stopped."""
        return min(int(self._fraction() * self.config.validations), self.config.validations - 1)

    def _averaged(self) -> Variables:
        """The averaged weights in memory of their own, for the next step gives the state's away."""
        return unpack(self.config.model_config, np.array(self.state.average))

    def _validate(self) -> None:
        if self.history and self.history[-1].phase == "validating" and self.history[-1].step == self.step:
            return
        variables = self._averaged()
        score = evaluate(replace(self.bundle, variables=variables), self.validation, self.baselines)
        if score.vrmse < self.best[0]:
            self.best = (score.vrmse, self.step, variables)
        found = Progress("validating", self.step, self._fraction(), vrmse=_finite(score.vrmse))
        self._report(replace(found, skill=_finite(score.skill), baseline=score.baseline))

    def _report(self, progress: Progress) -> None:
        self.history.append(progress)
        self.tell(progress)

    def _calibrated(self, bundle: ModelBundle) -> ModelBundle:
        frames, seen, target, there = all_windows(self.validation, bundle.config.context_frames)
        return replace(bundle, calibration=calibrate(*predict_next(bundle, frames, seen), target, there))


def _finite(value: float | None) -> float | None:
    """``value`` where it is a number: no reader of progress has to know NaN."""
    return value if value is not None and math.isfinite(value) else None


def _own_copy(state: TrainingState) -> TrainingState:
    """Fresh buffers: a step donates its state, and the caller's must stay readable."""
    copied: TrainingState = jax.tree.map(lambda leaf: jnp.array(np.array(leaf)), state)
    return copied
