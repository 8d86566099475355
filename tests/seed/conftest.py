"""What the founding document's tests share: one small network and one batch shape, so that each is compiled once."""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import numpy as np
import pytest

from nvp_agentkit.model import NVPConfig, NVPModel, create_train_state
from nvp_agentkit.training import Trainer, TrainingConfig, TrainingData, prepare_training_data

# The document's choices, at a size that compiles in a second.
SMALL = NVPConfig(latent_dim=8, encoder_features=(8,), dropout_rate=0.1, context_frames=1, norm="batch")
SIDE = 16


class Answers(NamedTuple):
    """What the model says of one batch in its three ways."""

    mean: jax.Array
    log_var: jax.Array
    predicted: jax.Array
    drawn: jax.Array


@jax.jit
def ask(params: dict[str, Any], fields: tuple[np.ndarray, ...], key: jax.Array) -> Answers:
    """All of them in one program."""
    model = NVPModel(SMALL)
    mean, log_var = model.apply(params, *fields, training=False)
    predicted = model.apply(params, *fields, method="predict")
    drawn = model.apply(params, *fields, deterministic=False, method="predict", rngs={"sample": key})
    return Answers(mean, log_var, predicted, drawn)


def waves(sequences: int, frames: int, seed: int = 0) -> np.ndarray:
    """Positive smooth fields that drift, (N, T, SIDE, SIDE)."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:SIDE, :SIDE] * (2 * np.pi / SIDE)
    phase = rng.uniform(0, 2 * np.pi, (sequences, 1, 1, 1)) + 0.3 * np.arange(frames)[:, None, None]
    return np.asarray(3 + np.sin(x + phase) + np.cos(y - phase), np.float32)


@pytest.fixture(scope="session")
def params() -> dict[str, Any]:
    """Weights of which none is zero: fresh heads say nothing."""
    rng = np.random.default_rng(0)
    fresh = create_train_state(jax.random.key(0), SMALL).params
    moved = jax.tree.map(
        lambda leaf: np.asarray(leaf + 0.1 * rng.standard_normal(np.shape(leaf)), np.float32), fresh["params"]
    )
    return fresh | {"params": moved}


@pytest.fixture(scope="session")
def fields() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """energy_t, grad_x and grad_y of two maps."""
    energy, slopes = prepare_training_data(waves(2, 2))
    return energy[:, 0, ..., None], slopes[:, 0, ..., :1], slopes[:, 0, ..., 1:]


@pytest.fixture(scope="session")
def data() -> TrainingData:
    return prepare_training_data(waves(6, 3))


@pytest.fixture
def trainer(tmp_path) -> Trainer:
    folder = tmp_path / "run"
    return Trainer(TrainingConfig(SMALL, batch_size=4, num_epochs=2, checkpoint_every=1, checkpoint_dir=folder))
