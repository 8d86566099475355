"""Forecasters side by side on sequences that none of them learnt from, at several lead times.

All forecast from the same windows; of many windows a number that fits in memory is taken, evenly. Skill at a lead time
is over the trivial forecaster that is best at that lead time. Intervals are by trajectory; of one trajectory alone by
blocks of windows, which depend on each other, so that those are too narrow.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from statistics import NormalDist
from typing import Any, NamedTuple, Self

import numpy as np
import numpy.typing as npt

from nvp_agentkit.errors import InvalidField
from nvp_agentkit.fields import metrics, scores
from nvp_agentkit.fields.baselines import NAMES
from nvp_agentkit.fields.forecasters import Forecaster, rollout
from nvp_agentkit.fields.scoreboard import BLOCKS, SHORTEST_BLOCK
from nvp_agentkit.fields.scores import Interval, bootstrap_by_trajectory
from nvp_agentkit.fields.sequence import Floats, Mask, SequenceSet

LEADS = (1, 2, 4, 8)
CELLS = 2**23  # of the maps that one forecaster tells: 512 windows of 64x64 at four lead times
TOGETHER = 16  # windows rolled out at once
CLAIMED = (0.1, 0.25, 0.5, 0.75, 0.9, 0.95, 0.99)  # of intervals; read as a normal distribution's
KEPT = tuple(round(0.1 * tenth, 1) for tenth in range(1, 11))  # shares of the cells, the surest first
NORMAL = {level: NormalDist().inv_cdf((1 + level) / 2) for level in CLAIMED}

Array = npt.NDArray[Any]


class Windows(NamedTuple):
    """What is shown (B, K, H, W) and what came (B, L, H, W) at ``leads``; where each was observed (None: everywhere).

    ``trajectory``, ``start``: which frames of the set; ``group``: what the bootstrap draws.
    """

    shown: Floats
    came: Floats
    shown_there: Mask | None
    there: Mask | None
    leads: tuple[int, ...]
    trajectory: npt.NDArray[np.intp]
    start: npt.NDArray[np.intp]
    group: npt.NDArray[np.intp]

    @classmethod
    def of(cls, data: SequenceSet, context: int, leads: Sequence[int] = LEADS) -> Self:
        """Windows of ``context`` frames that have a frame at every lead time that the set is long enough for.

        Raises:
            InvalidField: not even the first lead time is.
        """
        reach = tuple(lead for lead in sorted(set(leads)) if context + lead <= data.frames)
        if not reach:
            raise InvalidField(
                f"trajectories of {data.frames} frames; {context} are shown and the first lead time is {min(leads)}: "
                f"bring {context + min(leads)} or more"
            )
        each = data.frames - context - reach[-1] + 1
        most = max(1, CELLS // (len(reach) * data.grid[0] * data.grid[1]))
        chosen = np.unique(np.linspace(0, data.trajectories * each - 1, most).round().astype(np.intp))
        trajectory, start = np.divmod(chosen, each)
        at = start[:, None] + np.arange(context)
        to = start[:, None] + context - 1 + np.array(reach)
        mask = data.mask
        there = None if mask is None else mask[trajectory[:, None], to]
        group = trajectory
        if data.trajectories == 1:
            blocks = max(1, min(BLOCKS, len(chosen) // SHORTEST_BLOCK))
            group = np.arange(len(chosen)) * blocks // len(chosen)
        return cls(
            data.values[trajectory[:, None], at],
            data.values[trajectory[:, None], to],
            None if mask is None else mask[trajectory[:, None], at],
            there,
            reach,
            trajectory,
            start,
            group,
        )

    @property
    def groups(self) -> list[int]:
        """Those in which something was observed at every lead time."""
        seen = np.unique(self.group)
        if self.there is None:
            return [int(one) for one in seen]
        return [int(one) for one in seen if self.there[self.group == one].any((0, 2, 3)).all()]

    def at(self, lead: int, chosen: Mask | None = None) -> tuple[Floats, Mask | None]:
        """What came at a lead time, by its place among ``leads``, and where it was observed."""
        pick = slice(None) if chosen is None else chosen
        return self.came[pick, lead], None if self.there is None else self.there[pick, lead]


class Told(NamedTuple):
    """What one forecaster said of every window: (B, L, H, W), the field's unit; no log-variance: it claims none."""

    name: str
    mean: Floats
    log_var: Floats | None
    cpu_s: float = 0.0


@dataclass(frozen=True)
class AtLead:
    """One forecaster at one lead time. What hangs on a log-variance is empty, or None, where there is none.

    ``skill`` is over ``best``, the trivial forecaster that is best at this lead time. ``coverage``: claimed -> observed
    share of cells. ``width_90``: of the 90% interval, in standard deviations of the truth. ``risk``: share of cells
    kept, the surest first -> their RMSE over that of all; ``ideal``: were the sureness perfect. ``spectrum``: error by
    wavenumber, from 1. ``correlation`` with what came: of maps, in the mean.
    """

    lead: int
    vrmse: Interval
    skill: Interval
    best: str
    rmse: float
    nrmse: float
    h1: float
    bands: Mapping[str, float]
    spectrum: tuple[float, ...]
    budget_error: float
    correlation: float
    coverage: Mapping[float, float]
    width_90: float | None
    spread_skill: float | None
    risk: Mapping[float, float]
    ideal: Mapping[float, float]


@dataclass(frozen=True)
class Judged:
    """One forecaster at all lead times; ``cpu_s`` of one step of one window.

    ``correlated_until``: the last lead time before a forecast's correlation with what came falls below 0.8, of the
    windows' median; 0 where it does at the first.
    """

    name: str
    leads: tuple[AtLead, ...]
    cpu_s: float
    correlated_until: int


def tell(forecaster: Forecaster, windows: Windows, clock: Callable[[], float]) -> Told:
    """What ``forecaster`` says of ``windows``, step after step from its own maps. ``clock``: CPU-seconds so far."""
    began, parts = clock(), []
    steps = windows.leads[-1]
    places = [lead - 1 for lead in windows.leads]
    for first in range(0, len(windows.shown), TOGETHER):
        some = slice(first, first + TOGETHER)
        seen = None if windows.shown_there is None else windows.shown_there[some]
        mean, log_var = rollout(forecaster, windows.shown[some], steps, seen)
        parts.append((mean[:, places], log_var[:, places]))
    means, log_vars = (np.concatenate(part) for part in zip(*parts, strict=True))
    return Told(forecaster.name, means, log_vars, (clock() - began) / (steps * len(means)))


def judge(told: Sequence[Told], windows: Windows, *, periodic: bool) -> tuple[Judged, ...]:
    """All of ``told``, among them every trivial forecaster (`fields.baselines.NAMES`), in their order.

    Raises:
        InvalidField: nothing was observed to judge by.
    """
    groups = windows.groups
    if not groups:
        raise InvalidField("nothing was observed in the held-out frames; bring fuller sequences")
    missed = {one.name: np.zeros((len(groups), len(windows.leads))) for one in told}
    spread = np.zeros((len(groups), len(windows.leads)))
    for place, group in enumerate(groups):
        inside = windows.group == group
        for lead in range(len(windows.leads)):
            came, there = windows.at(lead, inside)
            for one in told:
                missed[one.name][place, lead], spread[place, lead] = metrics.vrmse_terms(
                    one.mean[inside, lead], came, there
                )
    judged = []
    for one in told:
        leads = []
        for lead in range(len(windows.leads)):
            trivial = {name: float(missed[name][:, lead].sum()) for name in missed if name in NAMES}
            best = min(trivial, key=trivial.__getitem__)
            intervals = _intervals(missed[one.name][:, lead], spread[:, lead], missed[best][:, lead])
            leads.append(_at(one, windows, lead, best, intervals, periodic=periodic))
        judged.append(Judged(one.name, tuple(leads), one.cpu_s, _correlated_until(one, windows)))
    return tuple(judged)


def _correlated_until(told: Told, windows: Windows) -> int:
    there = np.ones(windows.came.shape, np.bool_) if windows.there is None else windows.there
    each = zip(told.mean, windows.came, there, strict=True)
    lasted = [metrics.correlation_time(*window) for window in each if window[2].any()]
    return (0, *windows.leads)[int(np.median(lasted))]


def _intervals(missed: Array, spread: Array, reference: Array) -> tuple[Interval, Interval]:
    """VRMSE and skill over who missed by ``reference``, from sums of squares of each group."""

    def vrmse(drawn: Array) -> float:
        return float(np.sqrt(missed[drawn].sum() / (spread[drawn].sum() + metrics.TINY)))

    def skill(drawn: Array) -> float:
        return metrics.skill(float(np.sqrt(missed[drawn].sum())), float(np.sqrt(reference[drawn].sum())))

    return bootstrap_by_trajectory(vrmse, len(missed)), bootstrap_by_trajectory(skill, len(missed))


def _at(
    told: Told, windows: Windows, lead: int, best: str, intervals: tuple[Interval, Interval], *, periodic: bool
) -> AtLead:
    mean = told.mean[:, lead]
    came, there = windows.at(lead)
    whole = there is None or bool(there.all())
    claims: dict[str, Any] = {"coverage": {}, "width_90": None, "spread_skill": None, "risk": {}, "ideal": {}}
    if told.log_var is not None:
        claims = _claims(mean, told.log_var[:, lead], came, there)
    return AtLead(
        lead=windows.leads[lead],
        vrmse=intervals[0],
        skill=intervals[1],
        best=best,
        rmse=metrics.rmse(mean, came, there),
        nrmse=metrics.nrmse(mean, came, there),
        h1=metrics.h1(mean, came, there),
        bands=metrics.spectral_error(mean, came, periodic=periodic) if whole else {},
        spectrum=metrics.error_spectrum(mean, came, periodic=periodic) if whole else (),
        budget_error=metrics.budget_error(mean, came, there),
        correlation=float(metrics.correlation(mean, came, there).mean()),
        **claims,
    )


def _claims(mean: Floats, log_var: Floats, came: Floats, there: Mask | None) -> dict[str, Any]:
    sigma = np.exp(log_var / 2)
    valid = np.ones(came.shape, np.bool_) if there is None else there
    error, doubt = np.abs(mean - came)[valid], sigma[valid]
    deviation = float(np.std(came[valid], dtype=np.float64)) or 1.0
    varies = bool(np.ptp(doubt) > 1e-6 * doubt.max())  # of one number no cell is surer than another
    return {
        "coverage": scores.coverage_by_level(error, doubt, NORMAL),
        "width_90": 2 * NORMAL[0.9] * float(np.mean(doubt, dtype=np.float64)) / deviation,
        "spread_skill": scores.spread_skill(mean, log_var, came, there),
        "risk": _risk(error, doubt) if varies else {},
        "ideal": _risk(error, error) if varies else {},
    }


def _risk(error: Array, doubt: Array) -> dict[float, float]:
    """Share kept, the least doubtful first -> RMSE of those over that of all."""
    squares = np.cumsum(error[np.argsort(doubt)].astype(np.float64) ** 2)
    ends = {share: max(1, round(share * len(squares))) for share in KEPT}
    of_all = squares[-1] / len(squares) + metrics.TINY
    return {share: float(np.sqrt(squares[end - 1] / end / of_all)) for share, end in ends.items()}
