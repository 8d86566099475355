from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from nvp_agentkit.fields.sequence import FieldMeta, SequenceSet
from nvp_agentkit.model import NVPConfig
from nvp_agentkit.model.state import initial_variables
from nvp_agentkit.training import MemberConfig
from nvp_agentkit.training.step import TrainingState, first_state
from tests.conftest import COMPILED, QUICKLY_COMPILED

COMPILED_IN_CHILDREN = {  # what this process's own settings are, for programs that it starts
    "XLA_FLAGS": QUICKLY_COMPILED,
    "JAX_COMPILATION_CACHE_DIR": str(COMPILED),
    "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0.1",
    "JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES": "-1",
}
META = FieldMeta("drift", boundary=("periodic", "periodic"), positive=True)
SMALL = MemberConfig(NVPConfig(latent_dim=9, encoder_features=(8, 8)), batch_size=4, learning_rate=1e-2, warmup_steps=2)


def drifting(trajectories: int, seed: int, frames: int = 8, side: int = 16) -> SequenceSet:
    """Smooth periodic waves; each trajectory drifts at its own speed, a cell or so a frame."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:side, :side] * (2 * np.pi / side)
    values = np.empty((trajectories, frames, side, side), np.float32)
    for trajectory in range(trajectories):
        speed = rng.uniform(-1.2, 1.2, 2) * 2 * np.pi / side
        phases = rng.uniform(0, 2 * np.pi, 6)
        for frame in range(frames):
            v, u = y - frame * speed[0], x - frame * speed[1]
            waves = [np.sin(a * u + b * v + p) for (a, b), p in zip(WAVES, phases, strict=True)]
            values[trajectory, frame] = 7 + sum(waves)
    return SequenceSet(values, None, META)


WAVES = ((1, 0), (0, 1), (1, 1), (2, -1), (1, 2), (2, 2))


def masked(data: SequenceSet, fill: float) -> SequenceSet:
    """A hole that moves with time; what lies in it is ``fill``."""
    mask = np.ones(data.values.shape, bool)
    for frame in range(data.frames):
        mask[:, frame, 4:9, frame % 8 : frame % 8 + 5] = False
    return SequenceSet(np.where(mask, data.values, np.float32(fill)), mask, data.meta)


def untrained(config: MemberConfig = SMALL) -> TrainingState:
    return first_state(config, initial_variables(config.model_config, config.seed))


def with_mask(config: MemberConfig) -> MemberConfig:
    return replace(config, model_config=replace(config.model_config, masked=True))


@pytest.fixture(scope="session")
def train() -> SequenceSet:
    return drifting(6, seed=0)


@pytest.fixture(scope="session")
def validation() -> SequenceSet:
    return drifting(3, seed=1)
