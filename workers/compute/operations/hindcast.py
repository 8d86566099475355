"""Forecasts from the frames of a dataset, some starts at a time, and how good they are. Files are mapped, not read."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from nvp_agentkit.arrayfile import ROWS_DESCEND
from nvp_agentkit.errors import Cancelled, InvalidField, NvpError
from nvp_agentkit.fields.forecasters import Forecaster, TrivialForecaster, rollout, trivial_forecasters
from nvp_agentkit.fields.metrics import vrmse_terms
from nvp_agentkit.fields.sequence import Floats, Mask, SequenceSet
from nvp_agentkit.fields.storage import open_sequences
from nvp_agentkit.messages.hindcasts import MODEL

from ..call import Arrays, Call
from .machine import environment
from .serving import loaded

Sums = list[float]  # by lead time


class _Told(NamedTuple):
    """Forecasts from some starts, (B, steps, H, W) each; NaN where no frame shown had a value."""

    mean: Floats
    log_var: Floats


def survey(call: Call) -> tuple[dict[str, Any], Arrays]:
    """``params``: path, source (a model's file). What the data are, and how many frames the model looks at."""
    data, model = open_sequences(Path(call.params["path"])), _model(call.params["source"])
    (height, width), meta = data.grid, data.meta
    about = {
        "trajectories": data.trajectories, "frames": data.frames, "height": height, "width": width,
        "units": meta.units, "dt_s": meta.dt_s, "dx_m": meta.dx_m, "start_ms": meta.start_ms,
        "rows_descend": bool(meta.provenance.get(ROWS_DESCEND)),
    }  # fmt: skip
    return {"about": about, "context": model.context_frames, "environment": environment()}, []


def part(call: Call) -> tuple[dict[str, Any], Arrays]:
    """``params``: path, source, trajectory, frames (the newest shown, of each start), steps, together (starts that are
    computed, whatever their number: one shape, one program), judged (which of the starts), granted_mj, watts_per_core.

    Mean and standard deviation (starts, steps, H, W); sums of squares by lead time of those that are judged.

    Raises:
        Cancelled: nobody wants it any more.
    """
    params = call.params
    if (reason := call.stop_reason()) is not None:
        raise Cancelled(reason)
    call.progress(phase="hindcasting", step=0)
    data, model, steps = _data(params["path"]), _model(params["source"]), params["steps"]
    newest = np.array(params["frames"])
    shown, there = _windows(data, params["trajectory"], newest, model.context_frames)
    told = _forecast(model, shown, there, steps, params["together"])
    judged = params["judged"]
    sums: dict[str, Any] = {"missed": {}, "spread": []}
    if judged:
        some = _Told(told.mean[judged], told.log_var[judged])
        sums = _sums(some, params["path"], params["trajectory"], newest[judged], steps)
    return sums, [told.mean, np.exp(told.log_var / 2)]


@lru_cache(maxsize=1)
def _data(path: str) -> SequenceSet:
    return open_sequences(Path(path))


@lru_cache(maxsize=1)
def _model(source: str) -> Forecaster:
    return loaded(source)


@lru_cache(maxsize=1)
def _trivial(path: str) -> tuple[TrivialForecaster, ...]:
    """Fitted on the whole of the data, which favours them; none where there is nothing to fit them on."""
    try:
        return trivial_forecasters(_data(path))
    except InvalidField:
        return ()


def _windows(data: SequenceSet, trajectory: int, newest: np.ndarray, context: int) -> tuple[Floats, Mask]:
    """The frames shown (B, K, H, W), and where they have values."""
    frames = newest[:, None] + np.arange(1 - context, 1)
    values = np.asarray(data.values[trajectory, frames])
    if data.mask is None:
        return values, np.ones(values.shape, np.bool_)
    return values, np.asarray(data.mask[trajectory, frames])


def _forecast(model: Forecaster, shown: Floats, there: Mask, steps: int, together: int) -> _Told:
    """From a frame without any value nothing is forecast."""
    count, grid = len(shown), shown.shape[2:]
    whole = np.flatnonzero(np.all(np.any(there, (2, 3)), 1))
    told = _Told(*(np.full((count, steps, *grid), np.nan, np.float32) for _ in range(2)))
    if not len(whole):
        return told
    same = whole[np.minimum(np.arange(together), len(whole) - 1)]  # filled up with the last
    mean, log_var = (one[: len(whole)] for one in rollout(model, shown[same], steps, there[same]))
    known = np.any(there[whole], 1)[:, None]
    if np.any(known & ~(np.isfinite(mean) & np.isfinite(log_var))):
        raise NvpError(
            f"{model.name} forecast values that are not finite; see that the data are in the units that it learnt, "
            "or train anew"
        )
    told.mean[whole], told.log_var[whole] = (np.where(known, one, np.float32(np.nan)) for one in (mean, log_var))
    return told


def _sums(told: _Told, path: str, trajectory: int, newest: np.ndarray, steps: int) -> dict[str, Any]:
    """By forecaster, sums of squared errors at each lead time, and of the truth's deviations from its mean."""
    data, trivial = _data(path), _trivial(path)
    ahead = newest[:, None] + np.arange(1, steps + 1)
    came = np.asarray(data.values[trajectory, ahead])
    counted = np.isfinite(told.mean)
    if data.mask is not None:
        counted &= np.asarray(data.mask[trajectory, ahead])
    shown, there = _windows(data, trajectory, newest, TrivialForecaster.context_frames)
    forecasts = {one.name: rollout(one, shown, steps, there)[0] for one in trivial}
    if not forecasts:
        return {"missed": {}, "spread": []}
    missed, spread = {}, [0.0] * steps
    for name, mean in {MODEL: told.mean, **forecasts}.items():
        missed[name], spread = _terms(mean, came, counted)
    return {"missed": missed, "spread": spread}


def _terms(mean: Floats, came: Floats, counted: Mask) -> tuple[Sums, Sums]:
    terms = [
        vrmse_terms(mean[:, lead], came[:, lead], counted[:, lead]) if counted[:, lead].any() else (0.0, 0.0)
        for lead in range(mean.shape[1])
    ]
    return [one for one, _ in terms], [one for _, one in terms]
