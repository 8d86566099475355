"""The champion of a training beside the one in service, on the windows that nobody was trained on."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from nvp_agentkit.energy.accounts import joules
from nvp_agentkit.errors import NvpError
from nvp_agentkit.fields.metrics import TINY, vrmse_terms
from nvp_agentkit.fields.scores import bootstrap_by_trajectory
from nvp_agentkit.fields.sequence import SequenceSet
from nvp_agentkit.model import NetworkForecaster
from nvp_agentkit.training import MemberConfig
from nvp_agentkit.training.evaluate import Forecasts
from nvp_agentkit.training.examples import all_windows

from .prices import BUSY, Prices
from .serving import loaded

Terms = NDArray[np.float64]  # (trajectories, 2): squared errors, and squared deviations of what came


@dataclass(frozen=True)
class Incumbent:
    """Who serves now, and what it forecasts of the test set. Where it cannot be compared with, ``why`` says so.

    It is heard before anything is trained: what that takes is known by then, and nothing at the end can fail for it.
    """

    digest: str
    why: str = ""
    told: Forecasts | None = None

    @classmethod
    def hear(
        cls,
        asked: Mapping[str, Any] | None,
        test: SequenceSet,
        prices: Prices,
        config: MemberConfig,
        *,
        room_mj: float,
        say: Callable[..., None],
    ) -> Self | None:
        """What ``asked`` for forecasts: ensemble (its digest), path (its champion's file) or why there is none, units.

        Args:
            asked: None, which is what it gives then: nobody serves.
            room_mj: what is left beside all else; with less than it takes it is not heard.
        """
        if asked is None:
            return None
        refused = partial(cls, asked["ensemble"])
        if asked["why"]:
            return refused(asked["why"])
        if asked["units"] not in (None, test.meta.units):
            return refused(f"it learnt {asked['units']!r}, and these data are in {test.meta.units!r}")
        try:
            forecaster = loaded(asked["path"])
            shares = isinstance(forecaster, NetworkForecaster) and forecaster.bundle.config == config.model_config
            price_mj = prices.pass_mj + (0 if shares else BUSY * prices.opening_mj)  # a program of its own is compiled
            if price_mj > room_mj:
                return refused(
                    f"that takes about {joules(math.ceil(price_mj))} more than `budget_j` has; raise it"
                )
            say(phase="comparing")
            frames, seen, came, there = all_windows(test, forecaster.context_frames)
            return cls(asked["ensemble"], told=Forecasts(*forecaster.predict_next(frames, seen), came, there))
        except NvpError as error:
            return refused(f"it cannot forecast these data: {error}")

    def beside(self, judged: Forecasts, test: SequenceSet) -> dict[str, Any]:
        """Both VRMSE one step ahead over the same windows, and the 95% interval of how much less the new one's is."""
        said = {"ensemble": self.digest, "why": self.why}
        if self.told is None:
            return said
        ours, theirs = _terms(test, judged, self.told)
        less = bootstrap_by_trajectory(lambda drawn: _vrmse(theirs[drawn]) - _vrmse(ours[drawn]), len(ours))
        return said | {
            "ours": _vrmse(ours),
            "theirs": _vrmse(theirs),
            "trajectories": len(ours),
            "less": [None if math.isnan(bound) else bound for bound in (less.low, less.high)],
        }


def _terms(data: SequenceSet, *each: Forecasts) -> list[Terms]:
    """Of each by trajectory. Who looks at more frames has fewer windows: the last ones, which all have."""
    windows = min(len(told.mean) for told in each) // data.trajectories
    found = []
    for told in each:
        ends = [(n + 1) * len(told.mean) // data.trajectories for n in range(data.trajectories)]
        spans = [slice(end - windows, end) for end in ends]
        mask = np.ones(told.came.shape, np.bool_) if told.there is None else told.there
        found.append(np.array([vrmse_terms(told.mean[at], told.came[at], mask[at]) for at in spans]))
    return found


def _vrmse(terms: Terms) -> float:
    missed, spread = terms.sum(0)
    return float(np.sqrt(missed / (spread + TINY)))
