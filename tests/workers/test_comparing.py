"""A new champion beside who serves: the same windows, by trajectory, within the joules; or the reason why not."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from nvp_agentkit.fields.metrics import vrmse
from nvp_agentkit.fields.sequence import FieldMeta, SequenceSet
from nvp_agentkit.training import MemberConfig
from nvp_agentkit.training.evaluate import Forecasts
from nvp_agentkit.training.examples import all_windows
from nvp_agentkit.workers.compute.operations.comparing import Incumbent
from nvp_agentkit.workers.compute.operations.prices import Prices
from nvp_agentkit.workers.compute.operations.serving import loaded

PRICES = Prices.on(held_out=1000, watts_per_core=4.0)


@pytest.fixture
def test_set() -> SequenceSet:
    """Two trajectories of noise, five frames each."""
    values = np.random.default_rng(0).normal(size=(2, 5, 16, 16)).astype(np.float32)
    return SequenceSet(values, None, FieldMeta("noise", units="J"))


@pytest.fixture
def told(tmp_path: Path, weights) -> dict[str, Any]:
    path = tmp_path / "model"
    path.write_bytes(weights(0))
    return {"ensemble": "sha256:0", "path": str(path), "units": "J", "why": ""}


def judged(data: SequenceSet, share: float, context: int = 2) -> Forecasts:
    """That ``share`` of what came."""
    *_, came, there = all_windows(data, context)
    return Forecasts(share * came, np.zeros_like(came), came, there)


def heard(told: dict[str, Any] | None, data: SequenceSet, room_mj: float = 1e6, **otherwise: Any) -> Incumbent | None:
    say = otherwise.pop("say", lambda **told: None)
    return Incumbent.hear(told and told | otherwise, data, PRICES, MemberConfig(), room_mj=room_mj, say=say)


def test_both_are_scored_on_the_windows_that_both_have_with_how_sure_the_difference_is(test_set, told) -> None:
    said: list[dict[str, Any]] = []
    incumbent = heard(told, test_set, say=lambda **told: said.append(told))
    assert said == [{"phase": "comparing"}]
    model = loaded(told["path"])
    for context in (2, 3):  # of the new one, which then has no window at the first frame
        beside = incumbent.beside(judged(test_set, 0.5, context), test_set)
        assert beside["why"] == ""
        assert beside["ours"] == pytest.approx(0.5, abs=0.01)
        starts = [(n, frame) for n in range(2) for frame in range(context - 2, 3)]
        shown = np.stack([test_set.values[n, frame : frame + 2] for n, frame in starts])
        came = np.stack([test_set.values[n, frame + 2] for n, frame in starts])
        assert beside["theirs"] == pytest.approx(vrmse(model.predict_next(shown)[0], came), rel=1e-5)
        low, high = beside["less"]
        assert 0.5 < low < beside["theirs"] - beside["ours"] < high < 1.0
        assert beside["trajectories"] == 2


def test_of_one_trajectory_nothing_is_said_of_how_sure_it_is(test_set, told) -> None:
    one = test_set.select(trajectories=slice(0, 1))
    assert heard(told, one).beside(judged(one, 0.5), one)["less"] == [None, None]


def test_what_is_not_there_or_of_other_units_or_too_dear_is_not_compared_with_and_it_is_said_why(
    test_set, told
) -> None:
    assert heard(None, test_set) is None
    unseen = SequenceSet(test_set.values, np.zeros(test_set.values.shape, np.bool_), test_set.meta)
    for incumbent, why in (
        (heard(told, test_set, units="K"), "it learnt 'K', and these data are in 'J'"),
        (heard(told, test_set, path=None, why="gone"), "gone"),
        (heard(told, test_set, room_mj=PRICES.pass_mj), "that takes about"),
        (heard(told, unseen), "it cannot forecast these data: "),
    ):
        beside = incumbent.beside(judged(test_set, 0.5), test_set)
        assert beside["why"].startswith(why)
        assert "ours" not in beside
