"""A run between two steps as one file: weights, averages, optimiser state; written whole or not at all."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from safetensors.numpy import save

from nvp_agentkit.errors import InvalidFile
from nvp_agentkit.model.storage import parse, read_bounded, write_atomically
from nvp_agentkit.training.config import TrainingConfig
from nvp_agentkit.training.step import TrainingState, first_state


def save_checkpoint(state: TrainingState, config: TrainingConfig, path: str | Path) -> None:
    """Write ``state``; a crash or a full disk leaves the checkpoint that was there before."""
    tensors = {name: np.asarray(leaf, order="C") for name, leaf in _named(state).items()}
    metadata = {"nvp-checkpoint": json.dumps(config.to_dict(), sort_keys=True, separators=(",", ":"))}
    write_atomically(Path(path), bytes(save(tensors, metadata=metadata)))


def load_checkpoint(config: TrainingConfig, path: str | Path) -> TrainingState:
    """The state that `save_checkpoint` wrote for a run of ``config``; continuing it gives the same numbers.

    Raises:
        InvalidFile: missing, truncated, foreign, or of a run with another configuration.
    """
    written, tensors = parse(read_bounded(Path(path)), key="nvp-checkpoint")
    if written != config.to_dict():
        raise InvalidFile("a checkpoint of another configuration; resume with the one it was written with")
    empty = first_state(config, config.first_variables())
    wanted = _named(empty)
    if tensors.keys() != wanted.keys() or any(tensors[n].shape != leaf.shape for n, leaf in wanted.items()):
        raise InvalidFile("a checkpoint of another architecture than its configuration says")
    if any(tensors[n].dtype != leaf.dtype or not np.isfinite(tensors[n]).all() for n, leaf in wanted.items()):
        raise InvalidFile("a checkpoint with weights that are not finite or of another dtype")
    state: TrainingState = jax.tree.unflatten(jax.tree.structure(empty), [jnp.asarray(tensors[n]) for n in wanted])
    return state


def _named(state: TrainingState) -> dict[str, Any]:
    """Every leaf by its path; one order, the tree's own."""
    return {jax.tree_util.keystr(path): leaf for path, leaf in jax.tree_util.tree_leaves_with_path(state)}
