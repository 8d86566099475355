"""A run between two steps as one file: weights, averages, optimiser state; written whole or not at all."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar

import jax
import jax.numpy as jnp
import numpy as np
from safetensors.numpy import save

from nvp_agentkit.errors import InvalidFile
from nvp_agentkit.model.storage import LARGEST_HEADER, parse, read_bounded, write_atomically
from nvp_agentkit.training.member_config import MemberConfig
from nvp_agentkit.training.step import TrainingState, first_state

Tree = TypeVar("Tree")
MEMBER = "nvp-checkpoint"


def save_checkpoint(state: TrainingState, config: MemberConfig, path: str | Path) -> None:
    """Write ``state``; a crash or a full disk leaves the checkpoint that was there before."""
    write_tree(state, config.to_dict(), path, key=MEMBER)


def load_checkpoint(config: MemberConfig, path: str | Path) -> TrainingState:
    """The state that `save_checkpoint` wrote for a run of ``config``; continuing it gives the same numbers.

    Raises:
        InvalidFile: missing, truncated, foreign, or of a run with another configuration.
    """
    empty = first_state(config, config.first_variables())
    written, tensors = read_tensors(empty, path, key=MEMBER)
    if written != config.to_dict():
        raise InvalidFile("a checkpoint of another configuration; resume with the one it was written with")
    return as_tree(empty, tensors)


def write_tree(tree: Any, about: Mapping[str, Any], path: str | Path, *, key: str) -> None:
    """Every leaf of ``tree`` as a tensor, ``about`` as canonical JSON under ``key`` of the metadata."""
    tensors = {name: np.asarray(leaf, order="C") for name, leaf in _named(tree).items()}
    text = json.dumps(about, sort_keys=True, separators=(",", ":"), allow_nan=False)
    write_atomically(Path(path), bytes(save(tensors, metadata={key: text})))


def read_tensors(like: Any, path: str | Path, *, key: str) -> tuple[Any, dict[str, Any]]:
    """What `write_tree` wrote: ``about`` and tensors; nothing is read of a file larger than ``like`` can be.

    Raises:
        InvalidFile: missing, truncated or foreign.
    """
    largest = LARGEST_HEADER + 8 + sum(np.asarray(leaf).nbytes for leaf in jax.tree.leaves(like))
    return parse(read_bounded(Path(path), largest), key, largest)


def as_tree(like: Tree, tensors: Mapping[str, Any]) -> Tree:
    """``tensors`` in the structure of ``like``; `InvalidFile` where names, shapes, dtypes or values do not fit."""
    wanted = _named(like)
    if tensors.keys() != wanted.keys() or any(tensors[n].shape != np.shape(leaf) for n, leaf in wanted.items()):
        raise InvalidFile("a checkpoint of another architecture than its configuration says")
    if any(tensors[n].dtype != leaf.dtype or not np.isfinite(tensors[n]).all() for n, leaf in wanted.items()):
        raise InvalidFile("a checkpoint with weights that are not finite or of another dtype")
    leaves = [jnp.asarray(tensors[name]) for name in wanted]
    tree: Tree = jax.tree.unflatten(jax.tree.structure(like), leaves)
    return tree


def _named(tree: Any) -> dict[str, Any]:
    """Every leaf by its path; one order, the tree's own."""
    return {jax.tree_util.keystr(path): leaf for path, leaf in jax.tree_util.tree_leaves_with_path(tree)}
