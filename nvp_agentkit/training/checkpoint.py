"""A run between two steps as one file: weights, averages, optimiser state; written whole or not at all."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple, Protocol, TypeVar

import jax
import jax.numpy as jnp
import numpy as np
from safetensors.numpy import save

from nvp_agentkit.errors import InvalidFile, InvalidInput, ResultNotKept
from nvp_agentkit.model.state import Variables
from nvp_agentkit.model.storage import LARGEST_HEADER, parse, read_bounded, write_atomically
from nvp_agentkit.training.member_config import MemberConfig
from nvp_agentkit.training.step import TrainingState, first_state

Tree = TypeVar("Tree")
MEMBER = "nvp-checkpoint"


class Checkpoint(NamedTuple):
    """All that a run is between two steps: resumed from it, the numbers are the same.

    ``good`` is the state that validated best, whose averaged weights would be kept if the run ended here;
    ``setbacks`` says how often the run had to go back to such a state.
    """

    state: TrainingState
    good: TrainingState
    setbacks: jax.Array


class Saver(Protocol):
    """Keeps what a run is between two steps; asked after every step."""

    def due(self, step: int) -> bool:
        """Whether the run shall be kept as it is after so many steps."""

    def save(self, run: Checkpoint, config: MemberConfig) -> None:
        """Keep it."""


@dataclass(frozen=True)
class Saving:
    """Where a run leaves its checkpoint, and after how many steps the next one takes its place (a `Saver`)."""

    path: str | Path
    every: int = 50

    def __post_init__(self) -> None:
        if self.every < 1:
            raise InvalidInput(f"every is {self.every} steps; give at least 1")

    def due(self, step: int) -> bool:
        return step % self.every == 0

    def save(self, run: Checkpoint, config: MemberConfig) -> None:
        save_checkpoint(run, config, self.path)


def first_checkpoint(config: MemberConfig, variables: Variables) -> Checkpoint:
    """A run of ``config`` before its first step, starting from ``variables``."""
    state = first_state(config, variables)
    return Checkpoint(state, state, jnp.array(np.int32(0)))


def save_checkpoint(run: Checkpoint, config: MemberConfig, path: str | Path) -> None:
    """Write ``run``; a crash or a full disk leaves the checkpoint that was there before."""
    write_tree(run, config.to_dict(), path, key=MEMBER)


def load_checkpoint(config: MemberConfig, path: str | Path) -> Checkpoint:
    """What `save_checkpoint` wrote for a run of ``config``; continuing it gives the same numbers.

    Raises:
        InvalidFile: missing, truncated, foreign, or of a run with another configuration.
    """
    empty = first_checkpoint(config, config.first_variables())
    written, tensors = read_tensors(empty, path, key=MEMBER)
    if written != config.to_dict():
        known = written if isinstance(written, dict) else {}
        odd = [name for name, value in config.to_dict().items() if known.get(name) != value]
        raise InvalidFile(
            f"a checkpoint of another configuration ({', '.join(odd)}); resume with the one it was written with"
        )
    return as_tree(empty, tensors)


def write_tree(tree: Any, about: Mapping[str, Any], path: str | Path, *, key: str) -> None:
    """Every leaf of ``tree`` as a tensor, ``about`` as canonical JSON under ``key`` of the metadata.

    Raises:
        ResultNotKept: the disk did not take it; the file that was there before still is.
    """
    tensors = {name: np.asarray(leaf, order="C") for name, leaf in _named(tree).items()}
    text = json.dumps(about, sort_keys=True, separators=(",", ":"), allow_nan=False)
    data = bytes(save(tensors, metadata={key: text}))
    try:
        write_atomically(Path(path), data)
    except OSError as error:
        raise ResultNotKept(
            f"checkpoint {path} of {len(data)} bytes: {error.strerror}; an earlier one is unharmed: make room there, "
            "or write elsewhere"
        ) from error


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
