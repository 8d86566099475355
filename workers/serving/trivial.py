"""Who answers where nothing was trained: a trivial forecaster in the compute child (`fields.first_forecast`)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Self

import numpy as np
from numpy.typing import NDArray

from nvp_agentkit.errors import UnknownModel
from nvp_agentkit.messages import STARTER, TRIVIAL

from ..compute.cost import patience_s
from ..compute.front import Answer, ComputeChild

# CPU-seconds on busy cores; an optical flow looks 16 cells beyond every edge.
FIXED_CPU_S, FLOW_CPU_S_PER_CELL, AROUND = 0.01, 1.5e-6, 2 * 16


@dataclass(frozen=True)
class Trivial:
    """The trivial forecaster of that name; None: the one that would have told the last known frame best."""

    name: str | None = None
    record: ClassVar[None] = None  # it belongs to no ensemble

    @classmethod
    def asked_for(cls, model: str | None) -> Self | None:
        """What ``trivial`` and ``trivial:NAME`` ask for; None for the id of a trained model.

        Raises:
            UnknownModel: it is neither.
        """
        kind, _, name = (model or "model").partition(":")
        if kind not in (TRIVIAL, "model"):
            raise UnknownModel(
                f"no model {model!r}; give {TRIVIAL!r} or {STARTER!r}, which need no training, or a model:sha256:..."
            )
        return cls(name or None) if kind == TRIVIAL else None

    @staticmethod
    def cpu_s(shape: tuple[int, ...]) -> float:
        """What a forecast from frames of this shape takes, about: with three frames one is tried before."""
        frames, height, width = shape
        return FIXED_CPU_S + (2 if frames > 2 else 1) * FLOW_CPU_S_PER_CELL * (height + AROUND) * (width + AROUND)

    async def forecast(
        self, child: ComputeChild, frames: NDArray[np.float32], *, deadline: float
    ) -> tuple[str, Answer]:
        """The model id of who it was, and mean and log-variance.

        Raises:
            UnknownModel: no trivial forecaster of that name.
        """
        cpu_s = self.cpu_s(frames.shape)
        told = await child.call(
            "forecast_trivially", {"name": self.name}, [frames], deadline=deadline, at_least_s=patience_s(cpu_s)
        )
        return f"{TRIVIAL}:{told.values['name']}", told
