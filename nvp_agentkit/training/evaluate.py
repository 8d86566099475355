"""A model on data it has not seen: error, skill over the best trivial forecaster, coverage."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import NamedTuple, Self

import numpy as np

from nvp_agentkit.errors import InvalidField
from nvp_agentkit.fields.baselines import best
from nvp_agentkit.fields.metrics import budget_error, budget_violation, skill, vrmse
from nvp_agentkit.fields.scores import coverage_by_decile
from nvp_agentkit.fields.sequence import SMALL_SIDE, SequenceSet
from nvp_agentkit.model.bundle import LEVELS, Calibration, Coherence, Floats, ModelBundle
from nvp_agentkit.model.calibration import calibrate, interval_coverage, intervals
from nvp_agentkit.model.predict import LARGEST_BATCH, Mask, predict_next
from nvp_agentkit.model.rollout import damped, rollout_by_steps
from nvp_agentkit.model.samples import fit_coherence
from nvp_agentkit.training.examples import all_windows, beside_frames, newest_places, windows

LEADS = (2, 3, 4, 6, 8, 12)  # beside one step: where calibrations are fitted, in small fields
LARGEST_LEAD = 8  # in others: dearer than a validation beyond
MOST_BATCHES = 4


@dataclass(frozen=True)
class Score:
    """One step ahead over every window.

    Attributes:
        budget_error_true: of the total that came (`fields.metrics.budget_error`).
        budget_error_own: of what the domain's class says, which the network obeys (`fields.metrics.budget_violation`):
            rounding, whatever its forecasts are worth. None where they are not of one step, or the domain is open.
        skill: 1 - vrmse / best baseline's; None without baselines.
    """

    vrmse: float
    coverage: Mapping[float, float]
    budget_error_true: float
    budget_error_own: float | None = None
    skill: float | None = None
    baseline: str | None = None


class Forecasts(NamedTuple):
    """One step ahead from every window of a set, beside what came: (N, H, W) each, the field's unit.

    ``there``: True where what came was observed; None: everywhere.
    """

    mean: Floats
    log_var: Floats
    came: Floats
    there: Mask | None
    budget_error_own: float | None = None

    @classmethod
    def of(cls, bundle: ModelBundle, data: SequenceSet) -> Self:
        """What ``bundle`` says of ``data``."""
        frames, seen, came, there = all_windows(data, bundle.config.context_frames)
        beside = beside_frames(data, bundle.config.beside, newest_places(data, bundle.config.context_frames))
        mean, log_var = predict_next(bundle, frames, seen, beside)
        kind, known = bundle.config.conservation, None if seen is None else seen[:, -1]
        own = None if kind == "open" else budget_violation(mean, frames[:, -1], kind, known)
        return cls(mean, log_var, came, there, own)

    @classmethod
    def again(cls, bundle: ModelBundle, data: SequenceSet) -> Self:
        """To the bit what was calibrated on ``data`` to make the calibrated ``bundle``, and then calibrated."""
        return cls.of(replace(bundle, calibration=Calibration()), data).calibrated(bundle.calibration)

    def calibration(self) -> Calibration:
        """That of an uncalibrated bundle, which made these, one step ahead."""
        return calibrate(self.mean, self.log_var, self.came, self.there)

    def calibration_ahead(self) -> Calibration:
        """That of an uncalibrated bundle, which made these, further ahead, where what is forecast may not come true.

        Deviations from a forecast's own mean are kept as far as least squares have it.
        """
        there = np.isfinite(self.came) if self.there is None else self.there & np.isfinite(self.came)
        counted = (there | ~there.any((1, 2), keepdims=True)).astype(np.float32)
        said, came = (part - damped(part, 0, counted) for part in (self.mean, np.where(there, self.came, 0)))
        square = float(np.sum(np.square(said), where=there, dtype=np.float64))
        kept = float(np.clip(np.sum(said * came, where=there, dtype=np.float64) / square, 0, 1)) if square else 1.0
        return replace(self._replace(mean=damped(self.mean, kept, counted)).calibration(), kept=kept)

    def coherence(self, bundle: ModelBundle) -> Coherence:
        """How the errors of ``bundle``, which made these, hang together."""
        scale, boundary = bundle.normalization.scale, bundle.config.boundary
        return fit_coherence(self.mean, self.log_var, self.came, self.there, scale=scale, boundary=boundary)

    def calibrated(self, found: Calibration) -> Self:
        """What the same bundle would have said with the calibration ``found``: only its doubt is another."""
        return self._replace(log_var=found.log_var(self.log_var))

    def score(self, calibration: Calibration, baselines: Mapping[str, float] | None = None) -> Score:
        """Against what came; masked cells count for nothing.

        Args:
            calibration: the bundle's.
            baselines: name -> VRMSE of trivial forecasters on the same data (`fields.baselines`).
        """
        error = vrmse(self.mean, self.came, self.there)
        inside = interval_coverage(self.mean, self.log_var, self.came, calibration, self.there)
        found = Score(error, inside, budget_error(self.mean, self.came, self.there), self.budget_error_own)
        if not baselines:
            return found
        strongest = best(baselines)
        return replace(found, skill=skill(error, baselines[strongest]), baseline=strongest)


def evaluate(bundle: ModelBundle, data: SequenceSet, baselines: Mapping[str, float] | None = None) -> Score:
    """Score ``bundle`` on ``data``, trajectories it was not trained on; see `Forecasts.score`."""
    return Forecasts.of(bundle, data).score(bundle.calibration, baselines)


def with_coherence(bundle: ModelBundle, data: SequenceSet) -> ModelBundle:
    """``bundle``, which `model.sample_next` can sample then; ``data``: trajectories it was not trained on."""
    return replace(bundle, coherence=Forecasts.of(bundle, data).coherence(bundle))


def largest_lead(grid: tuple[int, int]) -> int:
    """How far ahead a calibration looks: further in small fields, where a forecast costs little."""
    return LEADS[-1] if min(grid) < SMALL_SIDE else LARGEST_LEAD


def windows_ahead(data: SequenceSet) -> int:
    """From how many windows a calibration on ``data`` looks ahead: in whole batches one of each trajectory, or more."""
    return LARGEST_BATCH * min(-(-data.trajectories // LARGEST_BATCH), MOST_BATCHES)


def cells_ahead(data: SequenceSet) -> int:
    """How many cells it forecasts."""
    return windows_ahead(data) * largest_lead(data.grid) * math.prod(data.grid)


def ahead(bundle: ModelBundle, data: SequenceSet, *, count: int | None = None) -> dict[int, Forecasts]:
    """Forecasts `LEADS` steps ahead, up to `largest_lead`, by lead, from windows spread over ``data``.

    Args:
        bundle: who forecasts.
        data: trajectories it was not trained on; leads that they do not reach, or where nothing came, are left out.
        count: of windows; None: `windows_ahead`. One may be taken twice where there are fewer: the number is a shape
            that is compiled.
    """
    context = bundle.config.context_frames
    windows(data, context)
    leads = [lead for lead in LEADS if lead <= min(largest_lead(data.grid), data.frames - context)]
    if not leads:
        return {}
    steps = leads[-1]
    starts = data.frames - context - steps + 1
    count = windows_ahead(data) if count is None else count
    chosen = np.linspace(0, data.trajectories * starts - 1, count).round().astype(int)
    spans = [(one // starts, slice(one % starts, one % starts + context + steps)) for one in chosen]
    values = np.stack([data.values[span] for span in spans])
    mask = None if data.mask is None else np.stack([data.mask[span] for span in spans])
    seen = None if mask is None else mask[:, :context]
    beside = beside_frames(data, bundle.config.beside, [(number, span.start + context - 1) for number, span in spans])
    means, log_vars = rollout_by_steps(bundle, values[:, :context], steps, seen, beside)
    found = {}
    for lead in leads:
        there = None if mask is None else mask[:, context + lead - 1]
        if there is None or there.any():
            found[lead] = Forecasts(means[:, lead - 1], log_vars[:, lead - 1], values[:, context + lead - 1], there)
    return found


def calibrated_ahead(
    bundle: ModelBundle, data: SequenceSet, first: Calibration, *, count: int | None = None
) -> Calibration:
    """``first``, found for one step of the uncalibrated ``bundle``, and what holds of more steps on ``data``.

    ``count``: see `ahead`.
    """
    told = ahead(bundle, data, count=count)
    return replace(first, later={lead: one.calibration_ahead() for lead, one in told.items()})


def coverage_by_lead(
    bundle: ModelBundle, data: SequenceSet, *, count: int | None = None
) -> dict[int, Mapping[float, float]]:
    """Share of cells inside each interval by lead, one step and those of `ahead`, which says what ``count`` is."""
    told = {1: Forecasts.of(bundle, data)} | ahead(bundle, data, count=count)
    return {lead: one.score(bundle.calibration.at(lead)).coverage for lead, one in told.items()}


def coverage_by_activity(bundle: ModelBundle, data: SequenceSet) -> dict[float, tuple[float, ...]]:
    """Share of cells inside each interval, one step ahead, by decile of how much they just changed.

    What the marginal hides: intervals too narrow where much happens, paid for where nothing does.
    """
    if bundle.config.context_frames < 2:
        raise InvalidField("a network of one frame is shown no change; give context_frames >= 2")
    frames, seen, *_ = all_windows(data, bundle.config.context_frames)
    told = Forecasts.of(bundle, data)
    change = np.abs(frames[:, -1] - frames[:, -2])
    there = np.isfinite(change) if seen is None else seen[:, -1] & seen[:, -2]
    there = there & np.isfinite(told.came) if told.there is None else there & told.there
    bounds = intervals(told.mean, told.log_var, bundle.calibration)
    return {level: coverage_by_decile(*bounds[level], told.came, change, there) for level in LEVELS}
