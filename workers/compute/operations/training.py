"""A training job: split by trajectory, fit the members within the budget, judge them on what nobody has seen.

What an attempt has done so far it leaves in files that the front keeps (`leaving`); the next one goes on from there.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from nvp_agentkit.energy.accounts import joules
from nvp_agentkit.energy.budget import require_useful
from nvp_agentkit.ensemble.calibration import calibrate_rule
from nvp_agentkit.errors import BudgetExhausted
from nvp_agentkit.fields.baselines import Fit
from nvp_agentkit.fields.sequence import SequenceSet
from nvp_agentkit.fields.split import Split, split
from nvp_agentkit.fields.storage import open_sequences
from nvp_agentkit.training import MemberRecipe, Parent, Progress, ensemble, error_correlation, train_members
from nvp_agentkit.training.evaluate import Forecasts, Score

from ..call import Arrays, Call
from .allowance import EnsembleAllowance
from .comparing import Incumbent
from .leaving import Earlier, Leaving, Left
from .machine import environment
from .prices import Prices

TOLD_EVERY_S = 0.25
FEWEST_FOR_A_RULE = 3


def train(call: Call) -> tuple[dict[str, Any], Arrays]:
    """``params``: path, members, seed, steps (in all; None: as many as the joules buy), parents (model files, the
    champion's first), incumbent (who serves, see `Incumbent.hear`), out (a folder), left (what an earlier attempt has
    done, see `Earlier`), attempt (a name that no other one has), granted_mj, watts_per_core.

    Raises:
        BudgetTooSmall: it would not buy an epoch of the champion, or the steps; nothing was computed yet.
        BudgetExhausted: earlier attempts have used too much of it.
        Cancelled: nobody wants it any more.
        InvalidField: the data cannot be split or windowed.
        InvalidInput, InvalidFile: parents that cannot be gone on from.
    """
    params = call.params
    parts = split(open_sequences(Path(params["path"])))
    parents = [Parent.read(path) for path in params["parents"]]
    recipes = ensemble(
        parts.train, members=params["members"], seed=params["seed"], parents=parents, shortest=parts.shortest
    )
    earlier = Earlier.read(params["left"], recipes)
    prices, room_mj = _forecast(call, parts, recipes, earlier)
    told = _Story(call, steps_before=earlier.steps, member=len(earlier.members))
    told.say(phase="baselines", step=earlier.steps_in_all, note=earlier.note)
    context = recipes[0].config.model_config.context_frames
    trivial = Fit.on(parts.train, context)
    validation = trivial.score(parts.validation, context)
    allowance = EnsembleAllowance(
        call.spending, prices, members=len(recipes), stop=call.stop_reason, steps=params["steps"],
        done=len(earlier.members), fraction=earlier.fraction,
    )  # fmt: skip
    config, say = recipes[0].config, partial(told.say, step=earlier.steps_in_all)
    incumbent = Incumbent.hear(params["incumbent"], parts.test, prices, config, room_mj=room_mj, say=say)
    allowance.spent_beside()
    leaving = Leaving(call, allowance, recipes, earlier)
    validated = [Forecasts.again(one.bundle, parts.validation) for one in earlier.members]
    if validated:
        allowance.caught_up(len(validated))
    trained = train_members(
        recipes, parts.train, parts.validation, allowance, _both(allowance.told, told), baselines=validation,
        done=[one.steps for one in earlier.members], resume=earlier.run, saving=leaving, on_member=leaving.finished,
    )  # fmt: skip
    told.say(phase="judging", step=sum(one.steps for one in leaving.members))
    test = trivial.score(parts.test, context)
    judged = [Forecasts.of(one.bundle, parts.test) for one in leaving.members]
    members = [_member(*one, test) for one in zip(recipes, leaving.members, judged, strict=True)]
    validated += [one.forecasts for one in trained]
    values, arrays = result(parts, members, judged, validated, test, context)
    configs = {recipe.voter: recipe.config.to_dict() for recipe in recipes}
    beside = incumbent and incumbent.beside(judged[0], parts.test)
    return values | {"configs": configs, "stopped_by": allowance.stopped_by, "beside": beside}, arrays


def _both(*listeners: Callable[[Progress], object]) -> Callable[[Progress], None]:
    def tell(progress: Progress) -> None:
        for listener in listeners:
            listener(progress)

    return tell


def _forecast(call: Call, parts: Split, recipes: Sequence[MemberRecipe], earlier: Earlier) -> tuple[Prices, int]:
    """What it takes, and what is left of the joules beside the least of that.

    Raises `BudgetTooSmall`, or where an earlier attempt has begun it `BudgetExhausted`: it would come to no end.
    """
    prices = Prices.of(parts, recipes[0].config, watts_per_core=float(call.params["watts_per_core"]))
    granted_mj, count = call.spending.granted_mj, len(recipes)
    if earlier.begun:
        rest_mj = prices.rest_mj(count, len(earlier.members))
        if granted_mj < rest_mj:
            raise BudgetExhausted(
                f"{joules(granted_mj)} are left, judging what earlier attempts trained takes about {joules(rest_mj)}; "
                "raise `budget_j`"
            )
        return prices, granted_mj - rest_mj
    steps = call.params["steps"]
    outcome = "whose champion sees all data once" if steps is None else f"of {steps} steps"
    least_mj = prices.least_mj(count, steps or math.ceil(prices.epoch_steps / recipes[0].share))
    require_useful(granted_mj, least_mj, f"an ensemble of {count} {outcome}")
    return prices, granted_mj - least_mj


def result(
    parts: Split,
    members: list[dict[str, Any]],
    judged: list[Forecasts],
    validated: list[Forecasts],
    baselines: dict[str, float],
    context: int,
) -> tuple[dict[str, Any], Arrays]:
    """What a training job of any kind of members gives, from what they told of the test and the validation set."""
    mask = _ever_observed(parts.train)
    trajectory, frame = parts.test_begins
    values = {
        "members": members,
        "error_correlation": [[*pair, found] for pair, found in error_correlation(judged).items()],
        "baselines": baselines,
        "rule": _rule(validated, parts, mask),
        "held_out": {"rule": parts.rule, "trajectory": trajectory, "frame": frame},
        "frames": [context, *parts.train.grid],
        "units": parts.train.meta.units,
        "environment": environment(),
    }
    return values, [] if mask is None else [mask.astype(np.uint8)]


@dataclass
class _Story:
    """Progress, told at most four times a second, with the last known skill on every line."""

    call: Call
    last_s: float = 0.0
    skill: float | None = None
    baseline: str | None = None
    steps_before: int = 0
    member: int = -1
    step: int = 0

    def __call__(self, progress: Progress) -> None:
        if progress.member != self.member:
            self.steps_before, self.member = self.steps_before + self.step, progress.member
        self.step = progress.step
        if progress.skill is not None:
            self.skill, self.baseline = progress.skill, progress.baseline
        elif progress.note is None and time.monotonic() - self.last_s < TOLD_EVERY_S:
            return
        self.say(
            phase=progress.phase if progress.note is None else "set back",
            step=self.steps_before + progress.step,
            loss=progress.loss,
            note=f"voter-{progress.member}" + (f" ({progress.note})" if progress.note else ""),
        )

    def say(self, **told: Any) -> None:
        self.last_s = time.monotonic()
        spending = self.call.spending
        used = spending.used_mj
        eta_s = spending.wall_s * (spending.granted_mj - used) / max(used, 1)
        self.call.progress(skill=self.skill, baseline=self.baseline, eta_s=round(eta_s, 1), **told)


def _member(recipe: MemberRecipe, left: Left, judged: Forecasts, baselines: dict[str, float]) -> dict[str, Any]:
    score = judged.score(left.bundle.calibration, baselines)
    return {
        "voter": recipe.voter,
        "model_id": left.model_id,
        "path": left.path,
        "parameters": recipe.config.parameters,
        "seed": recipe.config.seed,
        "parent": recipe.parent and recipe.parent.model_id,
        "width": recipe.config.width,
        "steps": left.steps,
    } | report(score)


def report(score: Score) -> dict[str, Any]:
    """What is told of a member's score."""
    coverage = {f"{100 * level:.0f}": share for level, share in score.coverage.items()}
    totals = {"budget_error_true": score.budget_error_true}
    if score.budget_error_own is not None:
        totals["budget_error_own"] = score.budget_error_own
    return {"vrmse": score.vrmse, "skill": score.skill, "coverage": coverage, "totals": totals}


def _rule(told: list[Forecasts], parts: Split, mask: np.ndarray | None) -> dict[str, Any] | None:
    """The agreement rule, from honest members on the validation set; None where there are too few of them."""
    if len(told) < FEWEST_FOR_A_RULE:
        return None
    means, log_vars = (np.stack([getattr(one, name) for one in told]) for name in ("mean", "log_var"))
    came, there = told[0].came, told[0].there
    valid = there if mask is None or there is None else there & mask
    rule = calibrate_rule(means, log_vars, came, units=parts.train.meta.units, mask=valid)
    return rule.model_dump(mode="json")


def _ever_observed(data: SequenceSet) -> np.ndarray | None:
    """(H, W): cells that had a value at least once; land never has."""
    if data.mask is None:
        return None
    observed: np.ndarray = np.logical_or.reduce(data.mask, axis=(0, 1))
    return None if observed.all() else observed
