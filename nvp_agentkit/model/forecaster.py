"""A trained network behind the signature of all forecasters (`fields.forecasters.Forecaster`)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy.typing as npt

from nvp_agentkit.errors import InvalidInput
from nvp_agentkit.model.bundle import Floats, ModelBundle
from nvp_agentkit.model.config import NVPConfig
from nvp_agentkit.model.predict import Mask, predict_next
from nvp_agentkit.model.rollout import rollout


@dataclass(frozen=True)
class NetworkForecaster:
    """``bundle`` as a forecaster, so that it is rolled out and scored as the trivial ones are.

    Raises:
        InvalidInput: a network that looks at more than the field.
    """

    bundle: ModelBundle
    name: str = "network"

    def __post_init__(self) -> None:
        if beside := self.bundle.config.beside:
            raise InvalidInput(
                f"this network looks at {', '.join(beside)} beside the field, which requests and comparisons do not "
                "carry: forecast with model.predict_next(bundle, frames, beside=...)"
            )

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
