"""A trained model in service: load it once, compile its shapes, forecast batches.

Each is a call of its own, so that forecasts of the models beside it come in between.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nvp_agentkit.errors import ComputeFailed
from nvp_agentkit.fields.forecasters import Forecaster
from nvp_agentkit.fields.sequence import FieldMeta
from nvp_agentkit.model import NetworkForecaster, load_model
from nvp_agentkit.model.foreign import ForeignModel, is_foreign, load_foreign
from nvp_agentkit.model.novelty import novelty_of
from nvp_agentkit.model.predict import forget
from nvp_agentkit.model.starter import STARTER, StarterForecaster
from nvp_agentkit.model.storage import read_bounded

from ..call import Arrays, Call
from ..spending import Spending

Networks = NetworkForecaster | StarterForecaster
_models: dict[str, Forecaster] = {}


def load(call: Call) -> tuple[dict[str, Any], Arrays]:
    """``params``: model_id, source (a model's file, or of which fields the starter model is to be)."""
    _models[call.params["model_id"]] = loaded(call.params["source"])
    return {}, []


def keep(call: Call) -> tuple[dict[str, Any], Arrays]:
    """``params``: models (their ids), shapes (of each a model's id and a grid (H, W)). All else is let go of.

    Not what a plug-in compiles: that is its own to bound.
    """
    for name in _models.keys() - set(call.params["models"]):
        del _models[name]
    configs = {name: model.config for name, model in _models.items() if isinstance(model, Networks)}
    forget({(configs[name], (grid[0], grid[1])) for name, grid in call.params["shapes"] if name in configs})
    return {}, []


def ready(call: Call) -> tuple[dict[str, Any], Arrays]:
    """``params``: model_id, frames (K, H, W), batch (its size). Compiled, unless it is; what one costs from then on.

    Raises:
        ComputeFailed: as `predict`.
    """
    model, frames = _kept(call.params["model_id"]), np.zeros((call.params["batch"], *call.params["frames"]), np.float32)
    model.predict_next(frames)  # compiles
    warm = Spending(0, 0.0)
    _told(model, frames)
    return {"cpu_s": warm.cpu_s, "wall_s": warm.wall_s}, []


def loaded(source: str | dict[str, Any]) -> Forecaster:
    """The model at ``source``, as `load` takes it."""
    if not isinstance(source, str):
        return StarterForecaster(FieldMeta(STARTER, boundary=tuple(source["boundary"]), positive=source["positive"]))
    data = read_bounded(Path(source))
    return load_foreign(data) if is_foreign(data) else NetworkForecaster(load_model(data))


def predict(call: Call) -> tuple[dict[str, Any], Arrays]:
    """``params``: model_id; arrays: frames (B, K, H, W), oldest first, and a mask (H, W) where the domain has one.

    ``ood`` has a number a window (`model.novelty`), or is None where the model cannot tell; so is ``widths``, of
    intervals in standard deviations by per cent.
    """
    model = _kept(call.params["model_id"])
    frames, *masks = call.arrays
    mask = np.broadcast_to(masks[0].astype(bool), frames.shape) if masks else None
    return _told(model, frames, mask)


def _kept(model_id: str) -> Forecaster:
    if model_id not in _models:  # a fresh child, or room was made: retryable, and loaded by the next attempt
        raise ComputeFailed(f"{model_id} is not loaded in this worker any more; ask again")
    return _models[model_id]


def _told(
    model: Forecaster, frames: NDArray[np.float32], mask: NDArray[np.bool_] | None = None
) -> tuple[dict[str, Any], Arrays]:
    ood = novelty_of(model.bundle, frames, mask) if isinstance(model, NetworkForecaster) else None
    known = {"ood": None if ood is None else ood.tolist(), "widths": _widths(model)}
    return known, list(model.predict_next(frames, mask))


def _widths(model: Forecaster) -> dict[str, float] | None:
    match model:
        case NetworkForecaster():
            calibration = model.bundle.calibration
        case ForeignModel():
            calibration = model.calibration
        case _:  # the starter: nothing was held out
            return None
    return {f"{100 * level:.0f}": float(width) for level, width in calibration.width.items()}
