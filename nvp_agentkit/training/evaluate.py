"""A model on data it has not seen: error, skill over the best trivial forecaster, coverage."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from nvp_agentkit.fields.metrics import skill, vrmse
from nvp_agentkit.fields.sequence import SequenceSet
from nvp_agentkit.model.bundle import ModelBundle
from nvp_agentkit.model.calibration import coverage
from nvp_agentkit.model.predict import predict_next
from nvp_agentkit.training.examples import all_windows


@dataclass(frozen=True)
class Score:
    """One step ahead over every window. ``skill`` = 1 - vrmse / best baseline's; None without baselines."""

    vrmse: float
    coverage: Mapping[float, float]
    skill: float | None = None
    baseline: str | None = None


def evaluate(bundle: ModelBundle, data: SequenceSet, baselines: Mapping[str, float] | None = None) -> Score:
    """Score ``bundle`` on ``data``; masked cells count for nothing.

    Args:
        bundle: the model.
        data: trajectories it was not trained on.
        baselines: name -> VRMSE of trivial forecasters on the same data (`fields.baselines`).
    """
    frames, seen, target, there = all_windows(data, bundle.config.context_frames)
    mean, log_var = predict_next(bundle, frames, seen)
    error = vrmse(mean, target, there)
    inside = coverage(mean, log_var, target, bundle.calibration, there)
    if not baselines:
        return Score(error, inside)
    best = min(baselines, key=lambda name: baselines[name])
    return Score(error, inside, skill(error, baselines[best]), best)
