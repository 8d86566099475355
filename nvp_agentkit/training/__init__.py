"""Training: epoch by epoch as documented, members of an ensemble under a budget, checkpoints, scores."""

from nvp_agentkit.training.checkpoint import Checkpoint, Saver, Saving, load_checkpoint, save_checkpoint
from nvp_agentkit.training.config import TrainingConfig, TrainingMetrics
from nvp_agentkit.training.data import TrainingData, prepare_training_data
from nvp_agentkit.training.evaluate import Score, evaluate, with_coherence
from nvp_agentkit.training.member_config import MemberConfig
from nvp_agentkit.training.member_trainer import MemberTrainer, Progress, TrainedModel
from nvp_agentkit.training.members import MemberRecipe, ensemble, error_correlation, train_members
from nvp_agentkit.training.pacing import Pacer, StepPacer, WindowPacer
from nvp_agentkit.training.parent import Parent
from nvp_agentkit.training.trainer import Trainer

__all__ = [
    "Checkpoint",
    "MemberConfig",
    "MemberRecipe",
    "MemberTrainer",
    "Pacer",
    "Parent",
    "Progress",
    "Saver",
    "Saving",
    "Score",
    "StepPacer",
    "TrainedModel",
    "Trainer",
    "TrainingConfig",
    "TrainingData",
    "TrainingMetrics",
    "WindowPacer",
    "ensemble",
    "error_correlation",
    "evaluate",
    "load_checkpoint",
    "prepare_training_data",
    "save_checkpoint",
    "train_members",
    "with_coherence",
]
