"""What is asked for before any of it is done: more where the network folds smaller blocks."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from nvp_agentkit.fields.sequence import FieldMeta, SequenceSet
from nvp_agentkit.fields.split import split
from nvp_agentkit.model import NVPConfig
from nvp_agentkit.training import MemberConfig
from nvp_agentkit.workers.compute.cost import dearer
from nvp_agentkit.workers.compute.operations.prices import Prices


@pytest.mark.parametrize(("grid", "times"), [((64, 64), 2), ((512, 127), 2), ((128, 128), 1)])
def test_a_cell_of_small_fields_is_dearer(grid: tuple[int, int], times: int) -> None:
    assert dearer(*grid) == times


def test_blocks_of_two_cells_cost_more_a_step_and_a_pass() -> None:
    parts = split(SequenceSet(np.random.default_rng(0).random((3, 9, 32, 32), np.float32), None, FieldMeta("noise")))
    coarse = MemberConfig(NVPConfig(), batch_size=8)
    prices, fine = (
        Prices.of(parts, replace(coarse, model_config=network), watts_per_core=4.0)
        for network in (coarse.model_config, NVPConfig(stem=2))
    )
    assert fine.pass_mj == pytest.approx(2.5 * prices.pass_mj)
    assert 1.5 * prices.step_mj < fine.step_mj < 2.5 * prices.step_mj
    assert fine.least_mj(3, 10) > prices.least_mj(3, 10)
    assert fine.compile_mj == prices.compile_mj
