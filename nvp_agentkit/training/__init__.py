"""Training: recipes, the loop, members of an ensemble, checkpoints, scores."""

from nvp_agentkit.training.checkpoint import load_checkpoint, save_checkpoint
from nvp_agentkit.training.config import TrainingConfig
from nvp_agentkit.training.evaluate import Score, evaluate
from nvp_agentkit.training.members import MemberRecipe, ensemble, train_members
from nvp_agentkit.training.pacing import Pacer, StepPacer, WindowPacer
from nvp_agentkit.training.step import TrainingState
from nvp_agentkit.training.trainer import Progress, TrainedModel, Trainer

__all__ = [
    "MemberRecipe",
    "Pacer",
    "Progress",
    "Score",
    "StepPacer",
    "TrainedModel",
    "Trainer",
    "TrainingConfig",
    "TrainingState",
    "WindowPacer",
    "ensemble",
    "evaluate",
    "load_checkpoint",
    "save_checkpoint",
    "train_members",
]
