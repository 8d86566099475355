"""A first forecast without training: by the trivial forecaster that would have told the last known frame best.

Its uncertainty is one number for all cells and **not calibrated**: how far the last frame was missed where there was
one to try on, else how much the field just changed, else how much it varies in space.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from nvp_agentkit.errors import UnknownModel
from nvp_agentkit.fields import baselines
from nvp_agentkit.fields.baselines import Fit, Glance, Seen, best, fitted_share
from nvp_agentkit.fields.edges import guessed_edges
from nvp_agentkit.fields.metrics import rmse
from nvp_agentkit.fields.sequence import FieldMeta, Floats

NAMES = tuple(name for name in baselines.NAMES if name not in baselines.FROM_CLIMATOLOGY)  # the others need a past
FRAMES_USED = 3  # two to forecast the last from. The share fitted on three more moved no score by 0.001
UNTRIED = {1: "persistence", 2: "advection"}  # by frames known, where none can be tried
LARGEST = float(np.finfo(np.float32).max)
SMALLEST_SHARE = 1e-6  # of the largest value: about what float32 can tell apart


class TrivialForecast(NamedTuple):
    """Which forecaster it is of; mean and log-variance (H, W), in the field's unit and of that unit squared."""

    name: str
    mean: Floats
    log_var: Floats


def trivial_forecast(frames: Floats, name: str | None = None) -> TrivialForecast:
    """Forecast the frame after ``frames`` (K, H, W), oldest first, all finite.

    With three frames each forecaster says what the last of them would be, and the one that missed it least goes on;
    with two it is advection, with one persistence.

    Args:
        frames: the newest three are looked at.
        name: that forecaster and no other.

    Raises:
        UnknownModel: no forecaster of that name.
    """
    if name is not None and name not in NAMES:
        raise UnknownModel(f"no trivial forecaster {name!r}; there are {', '.join(NAMES)}")
    shown = frames[-FRAMES_USED:]
    peak = float(np.abs(shown).max()) or 1.0
    shown = shown / np.float32(peak)  # in [-1, 1]: nothing overflows on the way
    meta = FieldMeta("", boundary=guessed_edges(shown), positive=bool(shown.min() >= 0))
    fit = Fit()
    if len(shown) == FRAMES_USED:
        tried, last = Glance.at(shown[:-1], meta), shown[-1]
        fit = Fit(fitted_share([Seen(tried, last, None)]))
        missed = {one: rmse(told, last) for one, told in tried.forecasts(meta, fit).items()}
        chosen = name or best(missed)  # of one frame the order by RMSE is that by VRMSE
        sigma = missed[chosen]
    else:
        chosen = name or UNTRIED[len(shown)]
        sigma = float(shown.std()) if len(shown) == 1 else rmse(*shown)
    told = np.float64(peak) * Glance.at(shown, meta).forecast(chosen, meta, fit)
    mean = np.clip(told, -LARGEST, LARGEST).astype(np.float32)
    log_var = 2 * (np.log(max(sigma, SMALLEST_SHARE)) + np.log(peak))
    return TrivialForecast(chosen, mean, np.full(mean.shape, log_var, np.float32))
