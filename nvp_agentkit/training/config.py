"""How a network is trained epoch by epoch, as the founding document has it."""

from __future__ import annotations

import dataclasses
import json
import math
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple, get_args

from nvp_agentkit.errors import InvalidInput
from nvp_agentkit.model.config import NVPConfig, whole
from nvp_agentkit.model.losses import LAMBDA_CONSERVATION, LAMBDA_ENTROPY
from nvp_agentkit.model.state import Optimiser

LARGEST_SEED = 2**32 - 1


class Objective(NamedTuple):
    """What is minimised: L = MSE + lambda_1 conservation + lambda_2 entropy + variance_weight likelihood.

    The first three are the document's. None of them contains the log-variance, so by itself its head learns nothing.
    """

    network: NVPConfig
    lambda_conservation: float
    lambda_entropy: float
    entropy_threshold: float
    variance_weight: float


@dataclass(frozen=True)
class TrainingConfig:
    """Session S2's configuration: its loss and plain Adam unless told otherwise.

    Args:
        model_config: the network.
        batch_size: windows a step; an epoch takes as many whole batches as there are.
        num_epochs: times that the data are gone through.
        learning_rate: of the optimiser, constant.
        lambda_conservation: weight of `compute_energy_conservation_loss`.
        lambda_entropy: weight of `compute_entropy_smoothness_loss`.
        entropy_threshold: nat that a forecast may lack of its target's entropy.
        variance_weight: of the likelihood that trains the log-variance head; 0: the document's loss.
        optimiser: ``adam`` or ``adamw`` (`model.state.optimiser`).
        validation_split: share of the trajectories held back where no validation data are given; 0: none.
        patience: epochs without a better loss after which training stops and the best weights are taken; None: never.
        checkpoint_every: epochs.
        checkpoint_dir: where checkpoints and metrics go.
        seed: first weights, order of the data, dropout.

    Raises:
        InvalidInput: a value outside its range, named.
    """

    model_config: NVPConfig = field(default_factory=NVPConfig)
    batch_size: int = 16
    num_epochs: int = 50
    learning_rate: float = 1e-4
    lambda_conservation: float = LAMBDA_CONSERVATION
    lambda_entropy: float = LAMBDA_ENTROPY
    entropy_threshold: float = 0.0
    variance_weight: float = 0.0
    optimiser: Optimiser = "adam"
    validation_split: float = 0.05
    patience: int | None = None
    checkpoint_every: int = 10
    checkpoint_dir: str | Path = "checkpoints"
    seed: int = 0

    def __post_init__(self) -> None:
        for name in ("batch_size", "num_epochs", "checkpoint_every", "patience"):
            if (value := getattr(self, name)) is not None:
                whole(name, value, 1)
        whole("seed", self.seed, 0, LARGEST_SEED)
        if not 0 < self.learning_rate < math.inf:
            raise InvalidInput(f"learning_rate is {self.learning_rate}; give a positive number")
        for name in ("lambda_conservation", "lambda_entropy", "entropy_threshold", "variance_weight"):
            if not getattr(self, name) >= 0:
                raise InvalidInput(f"{name} is {getattr(self, name)}; give 0 or more")
        if self.optimiser not in get_args(Optimiser):
            raise InvalidInput(f"optimiser is {self.optimiser!r}; give one of {', '.join(get_args(Optimiser))}")
        if self.model_config.beside:
            raise InvalidInput(
                f"this trainer shows the field alone, not {', '.join(self.model_config.beside)} beside it; train with "
                "MemberTrainer"
            )
        if not 0 <= self.validation_split < 1:
            raise InvalidInput(f"validation_split is {self.validation_split}; give a number in [0, 1)")

    @property
    def objective(self) -> Objective:
        return Objective(
            self.model_config,
            self.lambda_conservation,
            self.lambda_entropy,
            self.entropy_threshold,
            self.variance_weight,
        )

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values: all that changes the numbers, so not where files go."""
        plain: dict[str, Any] = json.loads(json.dumps(dataclasses.asdict(self), default=str))
        del plain["checkpoint_dir"]
        return plain | {"model_config": json.loads(self.model_config.to_json())}


@dataclass(frozen=True)
class TrainingMetrics:
    """One epoch, means over its windows.

    Attributes:
        mse_loss, rmse: in units of the training data's standard deviation.
        energy_fidelity: 1 - |sum E_pred - sum E| / sum |E|, in [0, 1]. Doing nothing passes 0.90.
        entropy_coherence: 1 - |S_pred - S| / |S|, in [0, 1]. Doing nothing passes 0.85.
        training_time_s: of the epoch, validation included.
    """

    epoch: int
    total_loss: float
    mse_loss: float
    conservation_loss: float
    entropy_loss: float
    energy_fidelity: float
    rmse: float
    entropy_coherence: float
    training_time_s: float

    def __str__(self) -> str:
        return (
            f"loss {self.total_loss:.4f}, RMSE {self.rmse:.4f}, fidelity {self.energy_fidelity:.3f}, "
            f"coherence {self.entropy_coherence:.3f}, {self.training_time_s:.1f} s"
        )
