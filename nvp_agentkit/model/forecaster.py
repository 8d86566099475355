"""A trained network behind the signature of all forecasters (`fields.forecasters.Forecaster`)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy.typing as npt

from nvp_agentkit.model.bundle import Floats, ModelBundle
from nvp_agentkit.model.config import NVPConfig
from nvp_agentkit.model.predict import Mask, predict_next
from nvp_agentkit.model.rollout import rollout


@dataclass(frozen=True)
class NetworkForecaster:
    """``bundle`` as a forecaster, so that it is rolled out and scored as the trivial ones are."""

    bundle: ModelBundle
    name: str = "network"

    @property
    def config(self) -> NVPConfig:
        return self.bundle.config

    @property
    def context_frames(self) -> int:
        return self.bundle.config.context_frames

    def predict_next(self, frames: npt.ArrayLike, mask: Mask | None = None) -> tuple[Floats, Floats]:
        """See `model.predict.predict_next`."""
        return predict_next(self.bundle, frames, mask)

    def rollout(self, frames: npt.ArrayLike, steps: int, mask: Mask | None = None) -> tuple[Floats, Floats]:
        """See `model.rollout.rollout`."""
        return rollout(self.bundle, frames, steps, mask)
