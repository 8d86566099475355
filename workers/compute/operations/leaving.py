"""What a training leaves behind on its way, so that another attempt goes on from there, to the bit.

Members that are done are left as models, the one at hand as a checkpoint. The front puts them away (`checkpoints`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from nvp_agentkit.errors import InvalidFile, NvpError, ResultNotKept
from nvp_agentkit.model import ModelBundle, load_model, save_model
from nvp_agentkit.model.storage import model_id, read_bounded
from nvp_agentkit.training import Checkpoint, MemberConfig, MemberRecipe, TrainedModel
from nvp_agentkit.training.checkpoint import as_tree, first_checkpoint, read_tensors, write_tree

from ..call import Call
from .allowance import EnsembleAllowance

KEY = "nvp-job"  # in a checkpoint's metadata
LOST_SHARE = 0.02  # of the joules granted: the most that lies between two checkpoints, and that a dead worker loses
KEEPING_SHARE = 0.05  # of the joules between two checkpoints: the most that one may cost where that is dearer


@dataclass(frozen=True)
class Left:
    """A member that is done."""

    path: str
    model_id: str
    bundle: ModelBundle
    steps: int


@dataclass(frozen=True)
class Earlier:
    """What an attempt before this one has done; nothing, where there was none.

    ``fraction``: of the allowance of all members, at the checkpoint ``run`` of the member after ``members``.
    """

    members: tuple[Left, ...] = ()
    run: Checkpoint | None = None
    fraction: float | None = None
    note: str | None = None

    @classmethod
    def read(cls, left: Mapping[str, Any], recipes: Sequence[MemberRecipe]) -> Self:
        """From ``left``: paths of ``models`` and of the checkpoint ``run`` (None: none). What cannot be gone on from is
        left aside, and the training begins anew; ``note`` says so.
        """
        if not left["models"] and left["run"] is None:
            return cls()
        try:
            members = tuple(map(_left, left["models"], recipes))
            fraction, run = sum(recipe.share for recipe in recipes[: len(members)]), None
            if left["run"] is not None:
                fraction, run = _run(left["run"], recipes[len(members)].config, len(members))
        except NvpError as error:
            return cls(note=f"begins anew, for what was done before cannot be read: {error}")
        found = cls(members, run, fraction)
        return cls(members, run, fraction, f"goes on from step {found.steps_in_all}")

    @property
    def begun(self) -> bool:
        return bool(self.members) or self.run is not None

    @property
    def steps(self) -> int:
        """Of the members that are done."""
        return sum(one.steps for one in self.members)

    @property
    def steps_in_all(self) -> int:
        return self.steps + (0 if self.run is None else int(self.run.state.step))


class Leaving:
    """Writes what is done into the job's folder and tells the front (`nvp_agentkit.training.Saver`).

    So often that no more than `LOST_SHARE` of the joules are lost with a worker, unless that would cost too much.
    """

    def __init__(
        self, call: Call, allowance: EnsembleAllowance, recipes: Sequence[MemberRecipe], earlier: Earlier
    ) -> None:
        self.members = list(earlier.members)
        self._call, self._allowance, self._recipes = call, allowance, recipes
        self._folder = Path(call.params["out"])
        self._last_mj = call.spending.used_mj
        self._between_mj = LOST_SHARE * call.spending.granted_mj

    def due(self, step: int) -> bool:
        return self._call.spending.used_mj - self._last_mj >= self._between_mj

    def save(self, run: Checkpoint, config: MemberConfig) -> None:
        """A disk that takes no checkpoint harms nobody who does not need it."""
        place, path = len(self.members), self._folder / f"{self._recipes[len(self.members)].voter}.run"
        step = sum(one.steps for one in self.members) + int(run.state.step)
        about = {
            "config": config.to_dict(), "member": place, "fraction": self._allowance.fraction_used(step),
            "attempt": self._call.params["attempt"],  # no two write the same bytes: each may remove its own
        }  # fmt: skip
        try:
            write_tree(run, about, path, key=KEY)
        except ResultNotKept as error:
            self._call.progress(phase="training", step=step, note=str(error))
        else:
            self._tell(path)
        cost_mj = self._allowance.spent_beside()
        self._between_mj = max(LOST_SHARE * self._call.spending.granted_mj, cost_mj / KEEPING_SHARE)
        self._last_mj = self._call.spending.used_mj

    def finished(self, place: int, trained: TrainedModel) -> None:
        """A member is done, and its checkpoint of no use any more."""
        path = self._folder / f"{self._recipes[place].voter}.safetensors"
        self.members.append(Left(str(path), save_model(trained.bundle, path), trained.bundle, trained.steps))
        path.with_suffix(".run").unlink(missing_ok=True)
        self._tell(None)

    def _tell(self, run: Path | None) -> None:
        self._call.progress(left={"models": [one.path for one in self.members], "run": run and str(run)})


def _left(path: str, recipe: MemberRecipe) -> Left:
    data = read_bounded(Path(path))
    bundle = load_model(data)
    _require_same(recipe.config, {name: bundle.recipe.get(name) for name in recipe.config.to_dict()})
    return Left(path, model_id(data), bundle, int(bundle.metrics["steps"]))


def _run(path: str, config: MemberConfig, place: int) -> tuple[float, Checkpoint]:
    empty = first_checkpoint(config, config.first_variables())
    about, tensors = read_tensors(empty, path, key=KEY)
    _require_same(config, about["config"])
    if about["member"] != place:
        raise InvalidFile(f"a checkpoint of member {about['member']}, where one of member {place} should be")
    return float(about["fraction"]), as_tree(empty, tensors)


def _require_same(config: MemberConfig, found: Mapping[str, Any]) -> None:
    if found != config.to_dict():
        raise InvalidFile("it is of another recipe; a newer version trains otherwise")
