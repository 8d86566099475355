"""The forecaster: configuration, network, weights, prediction, storage."""

from nvp_agentkit.model.bundle import Calibration, ModelBundle, Normalization
from nvp_agentkit.model.calibration import calibrate, interval_coverage, intervals
from nvp_agentkit.model.config import NVPConfig
from nvp_agentkit.model.forecaster import NetworkForecaster
from nvp_agentkit.model.layers import ResidualBlock
from nvp_agentkit.model.losses import (
    compute_budget_violation_loss,
    compute_energy_conservation_loss,
    compute_entropy,
    compute_entropy_decrease_loss,
    compute_entropy_smoothness_loss,
)
from nvp_agentkit.model.network import Decoder, Encoder, NVPModel
from nvp_agentkit.model.predict import predict_next
from nvp_agentkit.model.rollout import rollout
from nvp_agentkit.model.samples import sample_next
from nvp_agentkit.model.starter import starter
from nvp_agentkit.model.state import TrainState, count_parameters, create_train_state
from nvp_agentkit.model.storage import load_model, model_bytes, model_id, save_model

__all__ = [
    "Calibration",
    "Decoder",
    "Encoder",
    "ModelBundle",
    "NVPConfig",
    "NVPModel",
    "NetworkForecaster",
    "Normalization",
    "ResidualBlock",
    "TrainState",
    "calibrate",
    "compute_budget_violation_loss",
    "compute_energy_conservation_loss",
    "compute_entropy",
    "compute_entropy_decrease_loss",
    "compute_entropy_smoothness_loss",
    "count_parameters",
    "create_train_state",
    "interval_coverage",
    "intervals",
    "load_model",
    "model_bytes",
    "model_id",
    "predict_next",
    "rollout",
    "sample_next",
    "save_model",
    "starter",
]
