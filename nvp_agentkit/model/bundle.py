"""A trained network with everything a forecast needs: units, calibration, and where it came from."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from nvp_agentkit.errors import InvalidField, InvalidInput
from nvp_agentkit.model.config import NVPConfig
from nvp_agentkit.model.state import Variables, count_parameters

if TYPE_CHECKING:
    from nvp_agentkit.model.novelty import Novelty

Floats = npt.NDArray[np.float32]
LEVELS = (0.5, 0.9, 0.95)
NORMAL_QUANTILE = {0.5: 0.674490, 0.9: 1.644854, 0.95: 1.959964}  # of |z|, z ~ N(0, 1)
MARGIN = 0.5  # of the range of the training data, on either side: what a rollout may reach
WAVENUMBERS = np.geomspace(1 / 256, np.sqrt(0.5), 24)  # cycles a cell, up to the finest that a grid has
SLOWEST_GROWTH = -0.5  # of log scale over log lead: the summed variances' own growth, undone


@dataclass(frozen=True)
class Normalization:
    """Field = offset + scale * normalised; all in the field's unit, from valid training cells.

    Attributes:
        low, high: between which a rollout stays, `MARGIN` beyond what was seen; None: not known.
    """

    offset: float = 0.0
    scale: float = 1.0
    low: float | None = None
    high: float | None = None

    @classmethod
    def fit(cls, values: Floats, mask: npt.NDArray[np.bool_] | None = None) -> Normalization:
        """Mean, standard deviation and range of the valid cells; a constant field gets scale 1."""
        cells = values[np.isfinite(values) if mask is None else mask & np.isfinite(values)]
        if not cells.size:
            raise InvalidField("no cell of the training data has a value; check the mask")
        spread = float(cells.std(dtype=np.float64))
        least, most = float(cells.min()), float(cells.max())
        beyond = MARGIN * (most - least)
        scale = spread if spread > 1e-12 else 1.0
        return cls(float(cells.mean(dtype=np.float64)), scale, least - beyond, most + beyond)


@dataclass(frozen=True)
class Calibration:
    """Split-conformal widths: |error| <= width[level] * sigma held for that share of validation cells.

    Sigma is `exp(log_var / 2)` after ``bend`` and ``scale``, which make the 90% normal interval right.

    Attributes:
        bend: (log of sigma as it is claimed, in the field's unit; log of its factor), ascending; between them the
            factor is interpolated, beyond it is that of the nearest. Empty: ``scale`` alone.
        kept: share of a forecast's deviations from its own mean; less than 1 where they come true no further. Of one
            step it is 1.
        later: by lead, what holds of forecasts so many steps ahead (`model.rollout`); the rest is of one step.
    """

    scale: float = 1.0
    width: Mapping[float, float] = field(default_factory=lambda: dict(NORMAL_QUANTILE))
    bend: tuple[tuple[float, float], ...] = ()
    kept: float = 1.0
    later: Mapping[int, Calibration] = field(default_factory=dict)

    def log_var(self, claimed: Floats) -> Floats:
        """Calibrated log-variance of what a model claims, both of the field's unit squared, any shape."""
        factor = np.log(self.scale) + self._bent(claimed / 2)
        told: Floats = claimed + 2 * factor.astype(np.float32)
        return told

    def at(self, lead: int) -> Calibration:
        """What holds ``lead`` steps ahead.

        Between known leads powers of the lead are interpolated; beyond the last, sigma goes on growing as it did
        before it, and never shrinks.

        Raises:
            InvalidInput: a lead below 1.
        """
        if lead < 1:
            raise InvalidInput(f"lead is {lead}; give at least 1")
        known = {1: self, **dict(sorted(self.later.items()))}
        if lead in known:
            return replace(known[lead], later={})
        place, places = np.log(lead), np.log(list(known))
        scales = np.log([one.scale for one in known.values()])
        scale = np.interp(place, places, scales)
        if place > places[-1] and self.later:
            growth = (scales[-1] - scales[-2]) / (places[-1] - places[-2])
            scale += max(growth, SLOWEST_GROWTH) * (place - places[-1])
        widths = {level: [one.width[level] for one in known.values()] for level in LEVELS}
        width = {level: float(np.interp(place, places, widths[level])) for level in LEVELS}
        kept = float(np.interp(place, places, [one.kept for one in known.values()]))
        return Calibration(float(np.exp(scale)), width, _between(list(known.values()), places, place), kept)

    def _bent(self, log_sigma: npt.NDArray[Any]) -> npt.NDArray[np.float64]:
        """Log of the factor of each sigma, without ``scale``."""
        if not self.bend:
            return np.zeros(np.shape(log_sigma))
        knots, factors = np.array(self.bend).T
        told: npt.NDArray[np.float64] = np.interp(log_sigma, knots, factors)
        return told


def _between(known: list[Calibration], places: npt.NDArray[Any], place: float) -> tuple[tuple[float, float], ...]:
    """The bend at ``place`` from those at ``places``, one of ``known`` each: cell by cell, as scales are."""
    knots = np.unique([log_sigma for one in known for log_sigma, _ in one.bend])
    factors = np.array([one._bent(knots) for one in known])
    bends = [float(np.interp(place, places, column)) for column in factors.T]
    return tuple(zip(knots.tolist(), bends, strict=True))


@dataclass(frozen=True)
class Coherence:
    """How errors hang together, and what sigma is worth, fitted on validation cells (`model.samples`).

    Attributes:
        gain, stretch: a sample's standard deviation is gain * sigma^stretch, both in units of `Normalization.scale`.
        spectrum: power of errors over sigma at each of `WAVENUMBERS`; only ratios matter.
    """

    gain: float
    stretch: float
    spectrum: tuple[float, ...]


@dataclass(frozen=True)
class ModelBundle:
    """What is stored, shipped and voted with. ``recipe`` and ``metrics`` are plain JSON values.

    Attributes:
        coherence: None: it cannot be sampled.
        beside: the units of each map that ``config.beside`` names.

    Raises:
        InvalidInput: more or fewer of them.
    """

    config: NVPConfig
    variables: Variables
    normalization: Normalization = field(default_factory=Normalization)
    calibration: Calibration = field(default_factory=Calibration)
    domain: str = "unknown"
    recipe: Mapping[str, Any] = field(default_factory=dict)
    metrics: Mapping[str, float] = field(default_factory=dict)
    novelty: Novelty | None = None
    coherence: Coherence | None = None
    beside: tuple[Normalization, ...] = ()

    def __post_init__(self) -> None:
        if len(self.beside) != len(self.config.beside):
            wanted = len(self.config.beside)
            raise InvalidInput(f"units of {len(self.beside)} maps beside the field, a network that looks at {wanted}")

    @property
    def parameters(self) -> int:
        return count_parameters(self.variables)
