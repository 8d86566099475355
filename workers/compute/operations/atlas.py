"""What is done with data that is there: join it, evaluate forecasts of it, check it."""

from __future__ import annotations

import math
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from nvp_agentkit.energy.budget import require_useful
from nvp_agentkit.errors import InvalidField
from nvp_agentkit.fields.baselines import FIT_WINDOWS
from nvp_agentkit.fields.forecasters import TrivialForecaster, trivial_forecasters
from nvp_agentkit.fields.joining import join
from nvp_agentkit.fields.scoreboard import SHORTEST_BLOCK, Row, scoreboard
from nvp_agentkit.fields.sequence import SequenceSet
from nvp_agentkit.fields.split import split
from nvp_agentkit.fields.storage import open_sequences

from ..call import Arrays, Call
from ..spending import Allowance, used_cpu_s
from .data import made
from .machine import environment

FLOW_CPU_S_PER_CELL = 0.8e-6  # of a map that is carried along the flow, 256x256
FLOWING = 2  # forecasters that look at the flow; what the others cost is little beside them


def join_files(call: Call) -> tuple[dict[str, Any], Arrays]:
    """``params``: paths, out.

    Raises:
        InvalidField: they do not belong together.
    """
    parts = [open_sequences(Path(path)) for path in call.params["paths"]]
    whole = join(parts, Path(call.params["out"]))
    call.progress(phase="joining", step=len(parts), steps=len(parts))  # not before: what is charged is not refused
    return made(call, _masked(whole))


def evaluate(call: Call) -> tuple[dict[str, Any], Arrays]:
    """``params``: path. Every trivial forecaster, fitted on the training part, on the test part; maps to look at.

    Raises:
        BudgetTooSmall: nothing was computed yet.
        BudgetExhausted: it would not have ended within the budget.
        InvalidField: the data cannot be split.
    """
    parts = split(open_sequences(Path(call.params["path"])))
    test = parts.test
    maps = min(FIT_WINDOWS, _maps(parts.train)) + FLOWING * _maps(test)
    least_mj = round(1000 * FLOW_CPU_S_PER_CELL * maps * math.prod(test.grid) * float(call.params["watts_per_core"]))
    require_useful(call.spending.granted_mj, least_mj, f"an evaluation on {test.trajectories} x {test.frames} frames")
    call.progress(phase="fitting", step=0)
    forecasters = trivial_forecasters(parts.train)
    allowance = Allowance(call.spending, stop=call.stop_reason)
    rows: list[Row] = []
    for done, one in enumerate(forecasters):
        allowance.require(done, "evaluating")
        call.progress(phase="evaluating", step=done, steps=len(forecasters), note=one.name)
        rows += scoreboard([one], test, used_cpu_s)
    rows.sort(key=lambda row: row.vrmse.value)
    best = next(one for one in forecasters if one.name == rows[0].name)
    shown_maps, shown = _shown(best, test)
    trajectory, frame = parts.test_begins
    about = {
        "best": best.name,
        "units": test.meta.units,
        "held_out_by": parts.rule,
        "held_out_trajectories": test.trajectories,
        "held_out_frames": test.frames,
        "interval_by": _interval_by(rows[0], test, test.frames - best.context_frames),
        "shown_trajectory": trajectory,
        "shown_frame": frame + shown,
    }
    values = {"about": about, "scores": [_score(row) for row in rows], "arrays": list(shown_maps)}
    return values | {"environment": environment()}, list(shown_maps.values())


def _interval_by(row: Row, test: SequenceSet, windows: int) -> str:
    if math.isnan(row.vrmse.low):
        least = 2 * SHORTEST_BLOCK
        few = f"{windows} windows, and it takes {least}" if windows < least else "one block of frames has all that came"
        return f"nothing: {few}"
    return "trajectory" if test.trajectories > 1 else "blocks of frames"


def _maps(data: SequenceSet) -> int:
    return data.trajectories * data.frames


def _score(row: Row) -> dict[str, Any]:
    low, high = (None if math.isnan(bound) else bound for bound in row.vrmse[1:])
    return asdict(row) | {"vrmse": row.vrmse.value, "vrmse_low": low, "vrmse_high": high, "bands": dict(row.bands)}


def _shown(forecaster: TrivialForecaster, test: SequenceSet) -> tuple[dict[str, np.ndarray], int]:
    """The frame in the middle of the first test trajectory as it was forecast, and its number there."""
    one, frame = test[0], max(forecaster.context_frames, test.frames // 2)
    shown = slice(frame - forecaster.context_frames, frame)
    mask = None if one.mask is None else one.mask[None, shown]
    mean, log_var = forecaster.predict_next(one.values[None, shown], mask)
    maps = {"last": one.values[frame - 1], "truth": one.values[frame], "mean": mean[0], "log_var": log_var[0]}
    if one.mask is not None:
        maps["valid"] = one.mask[frame - 1] & one.mask[frame]
    return {name: np.asarray(values, np.float32) for name, values in maps.items()}, frame


def check(call: Call) -> tuple[dict[str, Any], Arrays]:
    """``params``: path.

    Raises:
        InvalidField: a value that is not finite, data that cannot be split, or a frame that would be in two parts.
    """
    data = open_sequences(Path(call.params["path"]))
    for number, one in enumerate(data):
        if not np.isfinite(one.values).all():
            frame, y, x = (int(axis) for axis in np.argwhere(~np.isfinite(one.values))[0])
            value = one.values[frame, y, x]
            raise InvalidField(f"trajectory {number}, frame {frame}: {value} at ({y}, {x}); make the dataset anew")
    parts = split(data)
    call.progress(phase="checking", step=1, steps=1)
    about = {
        "split": parts.rule,
        **{name: f"{part.trajectories} x {part.frames}" for name, part in
           (("train", parts.train), ("validation", parts.validation), ("test", parts.test))},
        "masked_cells": _masked(data),
    }
    return {"about": about, "environment": environment()}, []


def _masked(data: SequenceSet) -> int:
    return 0 if data.mask is None else sum(int((~mask).sum()) for mask in data.mask)
