"""Training one member: step while the pacer allows, keep the weights that validate best, calibrate."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from nvp_agentkit.errors import InvalidField
from nvp_agentkit.fields.sequence import SequenceSet
from nvp_agentkit.model.bundle import ModelBundle
from nvp_agentkit.model.predict import LARGEST_BATCH
from nvp_agentkit.model.state import Variables, unpack
from nvp_agentkit.training.evaluate import Forecasts
from nvp_agentkit.training.examples import Examples
from nvp_agentkit.training.member_config import MemberConfig
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
    """What a run made.

    Attributes:
        forecasts: of the kept weights on the validation set, calibrated as the bundle is.
        kept_step: the step whose weights are kept: 0 means that none beat the start.
    """

    bundle: ModelBundle
    forecasts: Forecasts
    steps: int
    kept_step: int
    stopped_by: Literal["pacer", "max_steps"]
    history: tuple[Progress, ...]
    state: TrainingState


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
        resume: TrainingState | None = None,
        examples: Examples | None = None,
    ) -> TrainedModel:
        """Train until ``pacer`` or ``max_steps`` says stop; a step is never begun against the pacer's word.

        Args:
            train: what is learned from; its mask leaves cells out of the loss.
            validation: other trajectories on the same grid: selection of weights, calibration.
            pacer: the allowance, asked before every step.
            on_progress: told of every step (each has finished: the device is waited for) and validation.
            baselines: VRMSE of trivial forecasters on ``validation``; with them progress shows skill.
            resume: the state of an earlier run with this configuration.
            examples: those of a run on the same data, with all that it has already found out about them.

        Returns:
            The best weights of those validated (the untrained network, which is the best trivial forecaster
            it can be, is one of them), calibrated; the caller's pacer decided how many steps that took.

        Raises:
            InvalidField: trajectories too short, grids that differ, no valid cell.
        """
        known = examples or Examples.of(train, self.config)
        run = _Run(self.config, known, validation, pacer, tell=on_progress, baselines=baselines, resume=resume)
        return run.result()


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
        *,
        tell: Callable[[Progress], None],
        baselines: Mapping[str, float] | None,
        resume: TrainingState | None,
    ) -> None:
        data = examples.data
        if data.grid != validation.grid:
            raise InvalidField(f"training fields are {data.grid} cells, validation {validation.grid}; give one grid")
        self.config, self.validation, self.pacer, self.tell = config, validation, pacer, tell
        self.baselines = dict(baselines or {})
        self.examples = examples
        self.state = _own_copy(resume) if resume is not None else self._first()
        self.step = int(self.state.step)
        self.history: list[Progress] = []
        self.bundle = ModelBundle(
            config.model_config, self._averaged(), examples.units, domain=data.meta.domain, recipe=config.to_dict()
        )
        self.best = self._validated()

    def _first(self) -> TrainingState:
        config = self.config
        batch = self.examples.batch(config.seed, 0, LARGEST_BATCH)
        return first_state(config, fitted_start(config.model_config, config.first_variables(), batch))

    def result(self) -> TrainedModel:
        stopped_by = self._train()
        self.tell(Progress("calibrating", self.step, self._fraction()))
        calibration = self.best.forecasts.calibration()
        forecasts = self.best.forecasts.calibrated(calibration)
        score = forecasts.score(calibration, self.baselines)
        kept_step = self.best.step
        metrics = {"validation_vrmse": score.vrmse, "steps": float(self.step), "kept_step": float(kept_step)}
        metrics |= {f"validation_coverage_{100 * level:.0f}": share for level, share in score.coverage.items()}
        if score.skill is not None:
            metrics["validation_skill"] = score.skill
        # A number that is none (a constant validation field has no VRMSE) is left out: it could not be stored.
        kept = {name: value for name, value in metrics.items() if math.isfinite(value)}
        bundle = replace(self.best.bundle, calibration=calibration, metrics=kept)
        return TrainedModel(bundle, forecasts, self.step, kept_step, stopped_by, tuple(self.history), self.state)

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
        """Keep the weights as they are now if they forecast the validation set better than those kept so far."""
        if self.history[-1].phase == "validating" and self.history[-1].step == self.step:
            return
        seen = self._validated()
        if seen.vrmse < self.best.vrmse:
            self.best = seen

    def _validated(self) -> _Seen:
        bundle = replace(self.bundle, variables=self._averaged())
        forecasts = Forecasts.of(bundle, self.validation)
        score = forecasts.score(bundle.calibration, self.baselines)
        found = Progress("validating", self.step, self._fraction(), vrmse=_finite(score.vrmse))
        self._report(replace(found, skill=_finite(score.skill), baseline=score.baseline))
        return _Seen(score.vrmse if math.isfinite(score.vrmse) else math.inf, self.step, bundle, forecasts)

    def _report(self, progress: Progress) -> None:
        self.history.append(progress)
        self.tell(progress)


def _finite(value: float | None) -> float | None:
    """``value`` where it is a number: no reader of progress has to know NaN."""
    return value if value is not None and math.isfinite(value) else None


def _own_copy(state: TrainingState) -> TrainingState:
    """Fresh buffers: a step donates its state, and the caller's must stay readable."""
    copied: TrainingState = jax.tree.map(lambda leaf: jnp.array(np.array(leaf)), state)
    return copied
