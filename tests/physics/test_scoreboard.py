"""Forecasters side by side."""

from time import process_time

import numpy as np
import pytest

from nvp_agentkit.errors import InvalidField
from nvp_agentkit.fields import SequenceSet
from nvp_agentkit.fields.baselines import NAMES, score_baselines
from nvp_agentkit.fields.forecasters import trivial_forecasters
from nvp_agentkit.fields.scoreboard import scoreboard

from .test_baselines import PERIODIC, drifting


def test_the_best_stands_first_with_the_score_it_has_and_how_sure_that_is(turbulence: SequenceSet) -> None:
    train, test = turbulence.select(trajectories=slice(0, 2)), turbulence.select(trajectories=slice(2, 4))
    rows = scoreboard(trivial_forecasters(train), test, process_time)
    assert [row.vrmse.value for row in rows] == sorted(row.vrmse.value for row in rows)
    assert {row.name: row.vrmse.value for row in rows} == pytest.approx(score_baselines(train, test))
    assert all(row.vrmse.low <= row.vrmse.value <= row.vrmse.high for row in rows)
    best = rows[0]
    assert best.name == "lagrangian_increment"
    assert 0.7 < best.coverage_90 < 1
    assert 0.4 < best.spread_skill < 1.3  # one number for two calm trajectories and two that are not
    assert list(best.bands) == ["k<8", "8-32", "k>32"]
    assert 0 < best.budget_error < 0.1
    assert best.cpu_s > 0


def test_masked_cells_count_for_nothing_and_have_no_spectrum() -> None:
    clean = drifting(6, trajectories=3)
    mask = np.random.default_rng(2).random(clean.values.shape) > 0.2
    rubbish = SequenceSet(np.where(mask, clean.values, np.float32(1e4)), mask, PERIODIC)
    rows = scoreboard(trivial_forecasters(rubbish), rubbish, process_time)
    assert sorted(row.name for row in rows) == sorted(NAMES)
    assert all(row.vrmse.value < 3 and row.bands == {} for row in rows)


def test_a_trajectory_without_a_window_is_refused() -> None:
    with pytest.raises(InvalidField, match="at least 3"):
        scoreboard(trivial_forecasters(drifting(6)), drifting(2), process_time)


def test_of_one_trajectory_blocks_of_frames_say_how_sure_a_score_is() -> None:
    rows = scoreboard(trivial_forecasters(drifting(6)), drifting(20, gain=1.05), process_time)
    assert all(row.vrmse.low < row.vrmse.value < row.vrmse.high for row in rows if row.name != "climatology")
    few = scoreboard(trivial_forecasters(drifting(6)), drifting(7), process_time)
    assert all(np.isnan(row.vrmse.low) for row in few)  # five windows are one block
