"""``python -m tests.training.on_devices``: what both trainers lose on the devices there are, as one line of JSON."""

from __future__ import annotations

import json
import tempfile
from typing import Any

import jax
import numpy as np

from nvp_agentkit.model import NVPConfig
from nvp_agentkit.training import MemberTrainer, StepPacer, Trainer, TrainingConfig, prepare_training_data
from nvp_agentkit.training.epoch_step import update
from nvp_agentkit.training.spread import over_devices
from nvp_agentkit.training.step import _step

from .conftest import SMALL, drifting

WITH_STATISTICS = NVPConfig(latent_dim=8, encoder_features=(8,), context_frames=1, norm="batch")


def losses() -> dict[str, Any]:
    train, validation = drifting(6, seed=0), drifting(3, seed=1)
    member = MemberTrainer(SMALL).fit(train, validation, StepPacer(4))
    with tempfile.TemporaryDirectory() as folder:
        config = TrainingConfig(WITH_STATISTICS, batch_size=4, num_epochs=1, checkpoint_dir=folder)
        trainer = Trainer(config)
        trainer.train(prepare_training_data(drifting(4, seed=0, frames=3)), prepare_training_data(validation), False)
    return {
        "devices": len(member.state.weights.sharding.device_set),
        "uneven": isinstance(over_devices(np.zeros(3), 3), np.ndarray),
        "programs": [_step._cache_size(), update._cache_size()],
        "losses": [
            *(one.loss for one in member.history if one.phase == "training"),
            member.bundle.metrics["validation_vrmse"],
            *(trainer.history[part][0].total_loss for part in ("train", "val")),
        ],
    }


if __name__ == "__main__":
    print(json.dumps({"there": jax.device_count()} | losses()))
