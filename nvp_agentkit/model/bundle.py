"""A trained network with everything a forecast needs: units, calibration, and where it came from."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from nvp_agentkit.errors import InvalidField
from nvp_agentkit.model.config import NVPConfig
from nvp_agentkit.model.state import Variables, count_parameters

Floats = npt.NDArray[np.float32]
LEVELS = (0.5, 0.9, 0.95)
NORMAL_QUANTILE = {0.5: 0.674490, 0.9: 1.644854, 0.95: 1.959964}  # of |z|, z ~ N(0, 1)


@dataclass(frozen=True)
class Normalization:
    """Field = offset + scale * normalised; both in the field's unit, from valid training cells."""

    offset: float = 0.0
    scale: float = 1.0

    @classmethod
    def fit(cls, values: Floats, mask: npt.NDArray[np.bool_] | None = None) -> Normalization:
        """Mean and standard deviation of the valid cells; a constant field gets scale 1."""
        cells = values[np.isfinite(values) if mask is None else mask & np.isfinite(values)]
        if not cells.size:
            raise InvalidField("no cell of the training data has a value; check the mask")
        spread = float(cells.std(dtype=np.float64))
        return cls(float(cells.mean(dtype=np.float64)), spread if spread > 1e-12 else 1.0)


@dataclass(frozen=True)
class Calibration:
    """Split-conformal widths: |error| <= width[level] * sigma held for that share of validation cells.

    Sigma is `exp(log_var / 2)` after ``scale``, which makes the 90% normal interval right.
    """

    scale: float = 1.0
    width: Mapping[float, float] = field(default_factory=lambda: dict(NORMAL_QUANTILE))


@dataclass(frozen=True)
class ModelBundle:
    """What is stored, shipped and voted with. ``recipe`` and ``metrics`` are plain JSON values."""

    config: NVPConfig
    variables: Variables
    normalization: Normalization = field(default_factory=Normalization)
    calibration: Calibration = field(default_factory=Calibration)
    domain: str = "unknown"
    recipe: Mapping[str, Any] = field(default_factory=dict)
    metrics: Mapping[str, float] = field(default_factory=dict)

    @property
    def parameters(self) -> int:
        return count_parameters(self.variables)
