"""A `Trainer`'s run between two epochs as one file, and its history as JSON."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Any, NamedTuple

from nvp_agentkit.errors import InvalidFile
from nvp_agentkit.model.bundle import Normalization
from nvp_agentkit.model.state import TrainState, Variables
from nvp_agentkit.training.checkpoint import as_tree, read_tensors, write_tree
from nvp_agentkit.training.config import TrainingConfig, TrainingMetrics

KEY, BEST = "nvp-training", "best"
MAY_DIFFER = {"num_epochs", "patience", "checkpoint_every", "learning_rate"}
History = dict[str, list[TrainingMetrics]]


class Best(NamedTuple):
    """The weights that validated best so far, and after which epoch they were such."""

    loss: float
    epoch: int
    params: Variables


class EpochRun(NamedTuple):
    """All that a run is between two epochs: resumed from it, the numbers are the same.

    ``setbacks``: how often the learning rate was halved. ``weights_of``: the epoch after which the weights were so.
    """

    state: TrainState
    epoch: int
    units: Normalization
    history: History
    best: Best | None
    setbacks: int
    weights_of: int
    parent: str | None


def record(config: TrainingConfig, history: History) -> dict[str, Any]:
    """Configuration and metrics by epoch as plain JSON values."""
    return {"config": config.to_dict()} | {part: [asdict(one) for one in epochs] for part, epochs in history.items()}


def save_run(run: EpochRun, config: TrainingConfig, path: Path) -> None:
    """Write ``run`` whole or not at all; raises `ResultNotKept` where the disk does not take it."""
    about: dict[str, Any] = {
        "epoch": run.epoch, "units": asdict(run.units), "parent": run.parent, "setbacks": run.setbacks,
        "weights_of": run.weights_of, "best": None,
    }  # fmt: skip
    tree: dict[str, Any] = {"state": run.state}
    if config.patience is not None and run.best is not None:
        about["best"], tree[BEST] = {"loss": run.best.loss, "epoch": run.best.epoch}, run.best.params
    write_tree(tree, about | record(config, run.history), path, key=KEY)


def load_run(fresh: TrainState, config: TrainingConfig, path: str | Path) -> EpochRun:
    """What `save_run` wrote of a run of ``config``, whose state looks like ``fresh``.

    More epochs may be asked for, more patience, and another learning rate; all else that the numbers hang on stays.

    Raises:
        InvalidFile: missing, truncated, foreign or of another configuration.
    """
    like: dict[str, Any] = {"state": fresh, BEST: fresh.params}
    about, tensors = read_tensors(like, path, key=KEY)
    try:
        written, epoch, units = dict(about["config"]), int(about["epoch"]), Normalization(**about["units"])
        history = {part: [TrainingMetrics(**one) for one in about[part]] for part in ("train", "val")}
        setbacks, weights_of, best = int(about["setbacks"]), int(about["weights_of"]), about[BEST]
        judged = None if best is None else (float(best["loss"]), int(best["epoch"]))
    except (KeyError, TypeError, ValueError) as error:
        raise InvalidFile(f"not a usable checkpoint: {error!r}") from error
    for name, value in config.to_dict().items():
        if name not in MAY_DIFFER and written.get(name) != value:
            raise InvalidFile(f"a checkpoint of a run with {name} = {written.get(name)!r:.90}, not {value!r:.90}")
    tree: dict[str, Any] = as_tree(like if judged else {"state": fresh}, tensors)
    found = None if judged is None else Best(*judged, tree[BEST])
    if written.get("learning_rate") != config.learning_rate:
        setbacks = 0  # of the other rate
    return EpochRun(tree["state"], epoch, units, history, found, setbacks, weights_of, about.get("parent"))
