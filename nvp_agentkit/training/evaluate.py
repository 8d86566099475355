"""A model on data it has not seen: error, skill over the best trivial forecaster, coverage."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple, Self

import numpy as np

from nvp_agentkit.fields.baselines import best
from nvp_agentkit.fields.metrics import skill, vrmse
from nvp_agentkit.fields.sequence import SequenceSet
from nvp_agentkit.model.bundle import Calibration, Floats, ModelBundle
from nvp_agentkit.model.calibration import calibrate, coverage
from nvp_agentkit.model.predict import Mask, predict_next
from nvp_agentkit.training.examples import all_windows


@dataclass(frozen=True)
class Score:
    """One step ahead over every window. ``skill`` = 1 - vrmse / best baseline's; None without baselines."""

    vrmse: float
    coverage: Mapping[float, float]
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

    @classmethod
    def of(cls, bundle: ModelBundle, data: SequenceSet) -> Self:
        """What ``bundle`` says of ``data``."""
        frames, seen, came, there = all_windows(data, bundle.config.context_frames)
        return cls(*predict_next(bundle, frames, seen), came, there)

    def calibration(self) -> Calibration:
        """That of an uncalibrated bundle, which made these."""
        return calibrate(*self)

    def calibrated(self, found: Calibration) -> Self:
        """What the same bundle would have said with the calibration ``found``: only its doubt is another."""
        return self._replace(log_var=self.log_var + 2 * np.float32(np.log(found.scale)))

    def score(self, calibration: Calibration, baselines: Mapping[str, float] | None = None) -> Score:
        """Against what came; masked cells count for nothing.

        Args:
            calibration: the bundle's.
            baselines: name -> VRMSE of trivial forecasters on the same data (`fields.baselines`).
        """
        error = vrmse(self.mean, self.came, self.there)
        inside = coverage(self.mean, self.log_var, self.came, calibration, self.there)
        if not baselines:
            return Score(error, inside)
        strongest = best(baselines)
        return Score(error, inside, skill(error, baselines[strongest]), strongest)


def evaluate(bundle: ModelBundle, data: SequenceSet, baselines: Mapping[str, float] | None = None) -> Score:
    """Score ``bundle`` on ``data``, trajectories it was not trained on; see `Forecasts.score`."""
    return Forecasts.of(bundle, data).score(bundle.calibration, baselines)
