"""A forecast by a network that nobody had to train: weights that ship with this package, made for the fields at hand.

What of a model is no weight comes from the data: edges, sign and class of conservation from what is said of them, units
from the frames shown. docs/starter.md is its card.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path

import numpy as np
import numpy.typing as npt

from nvp_agentkit.errors import InvalidField, InvalidInput
from nvp_agentkit.fields.sequence import FieldMeta
from nvp_agentkit.model.bundle import Floats, ModelBundle, Normalization
from nvp_agentkit.model.calibration import calibrate
from nvp_agentkit.model.config import NVPConfig
from nvp_agentkit.model.predict import Mask, checked, predict_next
from nvp_agentkit.model.storage import load_model

STARTER = "starter"
FILE = Path(__file__).with_name("starter.safetensors")


@cache
def starter_weights() -> ModelBundle:
    """The file as it is: its units, edges and calibration are of no data."""
    return load_model(FILE)


@dataclass(frozen=True)
class StarterForecaster:
    """The starter model as a forecaster (`fields.forecasters.Forecaster`): made for each window by itself."""

    meta: FieldMeta
    name: str = STARTER

    @property
    def config(self) -> NVPConfig:
        return _config(self.meta)

    @property
    def context_frames(self) -> int:
        return starter_weights().config.context_frames

    def predict_next(self, frames: npt.ArrayLike, mask: Mask | None = None) -> tuple[Floats, Floats]:
        """See `model.predict.predict_next`; raises as `starter` as well."""
        windows = np.asarray(frames)
        masks = [None] * len(windows) if mask is None else list(mask)
        bundles = [starter(one, self.meta, there) for one, there in zip(windows, masks, strict=True)]
        told = [predict_next(bundle, one[None]) for bundle, one in zip(bundles, windows, strict=True)]
        mean, log_var = (np.concatenate(part) for part in zip(*told, strict=True))
        return mean, log_var


def _config(meta: FieldMeta) -> NVPConfig:
    shipped = starter_weights().config
    return replace(shipped, boundary=meta.boundary, positive=meta.positive, conservation=meta.conservation)


def starter(frames: npt.ArrayLike, meta: FieldMeta, mask: Mask | None = None) -> ModelBundle:
    """The starter model for one sequence.

    Its doubt is **not calibrated**: with three frames or more it is scaled by how far the last of them is missed from
    those before it, with fewer it is what held on the fields that it was trained on.

    Args:
        frames: (K, H, W), oldest first, the field's unit, no cell without a value.
        meta: what the numbers mean; of it boundary, sign and class of conservation count, and the domain's name.
        mask: (K, H, W), True where a cell has a value; None: wherever it is finite.

    Raises:
        InvalidInput: a cell has no value: a network that sees where there are none has other weights.
        InvalidField: rank, sides, dtype or values that no network takes.
    """
    values = np.asarray(frames)
    if values.ndim != 3:
        raise InvalidField(f"frames have shape {values.shape}; give (K, H, W)")
    values, valid = checked(values[None], None if mask is None else np.asarray(mask)[None])
    if missing := int(valid.size - valid.sum()):
        raise InvalidInput(
            f"{missing} of {valid.size} cells have no value, and the starter model knows no such fields; "
            "fill them, ask for 'trivial', or train on these data"
        )
    config = _config(meta)
    bundle = replace(starter_weights(), config=config, normalization=Normalization.fit(values), domain=meta.domain)
    if values.shape[1] <= config.context_frames:
        return bundle
    tried = predict_next(bundle, values[:, -1 - config.context_frames : -1])
    return replace(bundle, calibration=calibrate(*tried, values[:, -1]))
