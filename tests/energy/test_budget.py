"""The rule that stops in time."""

from __future__ import annotations

import math
import random
import statistics
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nvp_agentkit.energy.budget import (
    LEAST_SPREAD,
    StepCost,
    cheapest_useful_mj,
    may_continue,
    require_useful,
    steps_between_checks,
    used_by,
)
from nvp_agentkit.energy.meter import Meter, modelled
from nvp_agentkit.energy.sensors import Modelled
from nvp_agentkit.errors import BudgetTooSmall


def cost_of(*steps_mj: float) -> StepCost:
    cost = StepCost()
    for mj in steps_mj:
        cost.add(mj)
    return cost


def test_it_stops_exactly_when_one_more_step_would_not_fit() -> None:
    step = cost_of(500, 10, 10, 10, 10)
    bound = 10 * (1 + 3 * LEAST_SPREAD)
    assert step.bound_mj == pytest.approx(bound)
    assert may_continue(100 - 20 - bound - 1e-9, step, reserve_mj=20, budget_mj=100)
    assert not may_continue(100 - 20 - bound + 1e-6, step, reserve_mj=20, budget_mj=100)


def test_several_steps_between_two_questions_must_fit_together() -> None:
    step = cost_of(500, 10, 10, 10, 10)
    assert may_continue(0, step, 0, budget_mj=125, steps=10)
    assert not may_continue(0, step, 0, budget_mj=120, steps=10)


def test_the_first_step_compiles_and_is_forgotten_once_another_was_seen() -> None:
    assert cost_of(900).mean_mj == 900
    assert cost_of(900, 10).mean_mj == 10
    assert cost_of(900, 10, 20, 30).mean_mj == 20


def test_before_the_first_step_the_forecast_stands_in() -> None:
    assert not may_continue(0, StepCost(forecast_mj=100), 0, budget_mj=150)
    assert may_continue(0, StepCost(forecast_mj=100), 0, budget_mj=200)


@given(st.lists(st.floats(1, 1e6), min_size=4, max_size=50))
def test_mean_and_spread_are_those_of_all_steps_but_the_first(steps_mj: list[float]) -> None:
    cost = cost_of(*steps_mj)
    assert cost.mean_mj == pytest.approx(statistics.fmean(steps_mj[1:]))
    spread = max(statistics.stdev(steps_mj[1:]), LEAST_SPREAD * cost.mean_mj)
    assert cost.sigma_mj == pytest.approx(spread, abs=1e-6 * max(steps_mj))


@given(st.integers(0, 10_000), st.floats(1, 1_000), st.floats(0, 0.2), st.floats(0, 5_000))
def test_no_run_of_wobbly_steps_ends_over_its_budget(
    seed: int, step_mj: float, wobble: float, compile_mj: float
) -> None:
    luck = random.Random(seed)
    budget_mj, reserve_mj = compile_mj + 60 * step_mj, 2 * step_mj
    cost, used = StepCost(), 0.0
    for step in range(1_000):
        if not may_continue(used, cost, reserve_mj, budget_mj):
            break
        mj = step_mj * luck.uniform(1 - wobble, 1 + wobble) + (compile_mj if step == 0 else 0)
        cost.add(mj)
        used += mj
    assert used + reserve_mj <= budget_mj
    if compile_mj < 20 * step_mj:  # what a budget can buy, it buys
        assert used + reserve_mj >= budget_mj - 3 * step_mj


def test_a_real_loop_ends_within_its_joules_by_the_process_clock() -> None:
    budget_mj, reserve_mj = 1_000, 50
    before = time.process_time()
    window, cost, last, steps = Meter(Modelled(4.0)).begin_window(), StepCost(), 0, 0
    while may_continue(last, cost, reserve_mj, budget_mj):
        sum(i * i for i in range(60_000))
        used = window.reading().mj
        cost.add(used - last)
        last, steps = used, steps + 1
    used_mj = (time.process_time() - before) * 4_000
    assert steps > 10
    assert 0.7 * budget_mj < used_mj <= budget_mj


def test_the_upper_bound_can_be_held_instead_of_the_estimate() -> None:
    reading = modelled(cpu_s=1.0)
    assert used_by(reading) == 4_000
    assert used_by(reading, enforce="upper") == 10_000


@pytest.mark.parametrize(("step_s", "steps"), [(0.1, 1), (0.005, 1), (0.002, 3), (0.0001, 50), (0.0, 1)])
def test_short_steps_are_asked_about_together(step_s: float, steps: int) -> None:
    assert steps_between_checks(step_s) == steps


def test_a_budget_that_buys_nothing_useful_is_refused_with_the_figure_it_would_need() -> None:
    step = StepCost(forecast_mj=100)
    needed = cheapest_useful_mj(compile_mj=5_000, step=step, steps=50, reserve_mj=200)
    assert needed == math.ceil(5_000 + 50 * 190 + 200)
    with pytest.raises(BudgetTooSmall) as refused:
        require_useful(2_000, needed, "one epoch")
    assert str(refused.value) == (
        "budget 2.0 J, one epoch takes about 14.7 J; raise `budget_j` to 14.7 or more"
    )
    assert refused.value.needed_mj == needed
    require_useful(needed, needed, "one epoch")
