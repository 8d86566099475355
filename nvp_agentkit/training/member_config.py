"""How a member of an ensemble is trained: every choice that changes its numbers, frozen and serialised one way."""

from __future__ import annotations

import dataclasses
import json
import math
from dataclasses import dataclass, field
from typing import Any

from nvp_agentkit.errors import InvalidInput
from nvp_agentkit.model.config import NVPConfig, whole
from nvp_agentkit.model.state import Variables, initial_variables
from nvp_agentkit.model.width import count_within, initial_variables_within
from nvp_agentkit.training.config import LARGEST_SEED


@dataclass(frozen=True)
class MemberConfig:
    """The recipe; with the data's digest and the recorded step count it determines the model.

    Args:
        model_config: the network.
        features: channels of each level that this member has of the network's; None: all (`model.width`).
        seed: first weights and the order of the data.
        batch_size: windows a step.
        learning_rate: peak; reached after ``warmup_steps``, then half a cosine down over the budget.
        warmup_steps: steps of linear rise.
        weight_decay: of AdamW.
        variance_weight: weight of the likelihood that trains the log-variance head.
        ema_decay: of the averaged weights, which are the ones kept.
        crop: side of the squares cut from larger fields, cells.
        max_steps: never more, whatever the budget.
        rollout_steps: the most steps that the loss looks ahead, each from the forecast of the one before; from one they
            grow in equal parts of the budget, and every length is compiled.
        validations: how often the weights are scored on the validation set over the budget.

    Raises:
        InvalidInput: a value outside its range, named.
    """

    model_config: NVPConfig = field(default_factory=NVPConfig)
    features: tuple[int, ...] | None = None
    seed: int = 0
    batch_size: int = 2
    learning_rate: float = 4e-3
    warmup_steps: int = 20
    weight_decay: float = 1e-4
    variance_weight: float = 0.1
    ema_decay: float = 0.98
    crop: int = 128
    max_steps: int = 100_000
    rollout_steps: int = 1
    validations: int = 3

    def __post_init__(self) -> None:
        least = {"batch_size": 1, "crop": 16, "max_steps": 0, "warmup_steps": 0, "rollout_steps": 1, "validations": 1}
        for name, low in least.items():
            whole(name, getattr(self, name), low)
        whole("seed", self.seed, 0, LARGEST_SEED)
        if not 0 < self.learning_rate < math.inf:
            raise InvalidInput(f"learning_rate is {self.learning_rate}; give a positive number")
        if not 0 <= self.ema_decay < 1:
            raise InvalidInput(f"ema_decay is {self.ema_decay}; give a number in [0, 1)")
        if self.model_config.norm == "batch" or self.model_config.document_grid is not None:
            raise InvalidInput(
                "a member's weights are one vector without running averages, in the default topology; "
                "train batch normalisation and the document's network with training.Trainer"
            )
        if self.weight_decay < 0 or self.variance_weight < 0:
            raise InvalidInput("weight_decay and variance_weight must not be negative")

    @property
    def width(self) -> int:
        """Channels of the finest level: the figure by which members of an ensemble are told apart."""
        return (self.features or self.model_config.encoder_features)[0]

    @property
    def parameters(self) -> int:
        """Number of values that train."""
        return count_within(self.model_config, self.features or self.model_config.encoder_features)

    def first_variables(self) -> Variables:
        """Fresh weights, equal for equal recipes."""
        if self.features is None:
            return initial_variables(self.model_config, self.seed)
        return initial_variables_within(self.model_config, self.features, self.seed)

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values, for the model's recipe and the lineage."""
        plain: dict[str, Any] = json.loads(json.dumps(dataclasses.asdict(self)))
        return plain | {"model_config": json.loads(self.model_config.to_json())}
