"""An ensemble's allowance: prices that were forecast wrongly are learnt in time to end well.

The machine is a virtual one, idle or busy: what it does elsewhere shall not decide here.
"""

from __future__ import annotations

from dataclasses import replace

import pytest

from nvp_agentkit.errors import Cancelled
from nvp_agentkit.training import Progress, WindowPacer
from nvp_agentkit.workers.compute.operations.allowance import EnsembleAllowance
from nvp_agentkit.workers.compute.operations.prices import CLOSING_PASSES, Prices
from nvp_agentkit.workers.compute.spending import Spending

from .machine import Machine

WATTS = 4.0
STEP_S, PASS_S, COMPILE_S = 0.005, 0.02, 0.15
TRUE = Prices(
    opening_mj=1000 * WATTS * COMPILE_S, compile_mj=1000 * WATTS * COMPILE_S, begin_mj=1000 * WATTS * PASS_S,
    step_mj=1000 * WATTS * STEP_S, pass_mj=1000 * WATTS * PASS_S, baselines_mj=0.0, closing_mj=10.0, epoch_steps=10,
)  # fmt: skip
MEMBERS = 3


def trained(allowance: EnsembleAllowance, machine: Machine) -> list[int]:
    """Steps of each member, with three validations on the way, as `train_members` has it; then the judging."""
    steps, before = [], 0
    for member in range(MEMBERS):
        window = WindowPacer(allowance, member / MEMBERS, (member + 1) / MEMBERS, before)
        machine.burn(PASS_S + (0 if member else COMPILE_S))
        allowance.told(Progress("validating", 0, 0.0, member=member))
        step, seen = 0, 0
        while window.may_continue(step):
            machine.burn(STEP_S if before + step else COMPILE_S)
            step += 1
            allowance.told(Progress("training", step, 0.0, member=member))
            if int(3 * window.fraction_used(step)) > seen:
                seen += 1
                machine.burn(PASS_S)
                allowance.told(Progress("validating", step, 0.0, member=member))
        machine.burn(PASS_S)
        allowance.told(Progress("validating", step, 0.0, member=member))
        steps.append(step)
        before += step
    machine.burn(MEMBERS * (CLOSING_PASSES - 1) * PASS_S)
    return steps


@pytest.mark.parametrize(
    "forecast",
    [
        TRUE,
        replace(TRUE, pass_mj=TRUE.pass_mj / 5, begin_mj=TRUE.begin_mj / 5),
        replace(TRUE, step_mj=TRUE.step_mj / 5),
        replace(TRUE, compile_mj=TRUE.compile_mj / 2),
        replace(TRUE, pass_mj=2 * TRUE.pass_mj, step_mj=4 * TRUE.step_mj, compile_mj=1.5 * TRUE.compile_mj),
    ],
    ids=["as forecast", "passes five times dearer", "steps five times dearer", "compiling twice as dear", "cheaper"],
)
def test_a_training_ends_judged_within_its_joules_whatever_was_forecast(machine: Machine, forecast: Prices) -> None:
    spending = Spending(6_000, WATTS)
    allowance = EnsembleAllowance(spending, forecast, members=MEMBERS)
    steps = trained(allowance, machine)
    assert 0.75 * spending.granted_mj < spending.used_mj <= spending.granted_mj
    assert allowance.stopped_by == "budget_exhausted"
    assert min(steps) >= 20, steps  # no member eats another's part


def test_a_reason_from_outside_ends_it_at_the_next_step(machine: Machine) -> None:
    reasons = iter([None, None, "another worker has this job now"])
    allowance = EnsembleAllowance(Spending(10**6, WATTS), TRUE, members=1, stop=lambda: next(reasons))
    assert [allowance.may_continue(step) for step in range(2)] == [True, True]
    with pytest.raises(Cancelled, match=r"another worker has this job now; stopped at 0\.\d J"):
        allowance.may_continue(2)


def test_a_training_that_goes_on_stands_where_it_stood_in_its_schedule_and_uses_up_what_is_left(
    machine: Machine,
) -> None:
    allowance = EnsembleAllowance(Spending(2_000, WATTS), TRUE, members=1, fraction=0.6)
    machine.burn(PASS_S)
    allowance.told(Progress("validating", 0, 0.0))
    assert allowance.fraction_used(7) == pytest.approx(0.6, abs=0.01)
    machine.burn(COMPILE_S)
    allowance.told(Progress("training", 8, 0.0))
    assert allowance.fraction_used(8) == pytest.approx(0.6, abs=0.02)
    step = 8
    while allowance.may_continue(step):
        machine.burn(STEP_S)
        step += 1
        allowance.told(Progress("training", step, 0.0))
    assert 0.97 < allowance.fraction_used(step) <= 1


def test_a_number_of_steps_places_a_training_in_its_schedule_whatever_it_costs(
    machine: Machine,
) -> None:
    allowance = EnsembleAllowance(Spending(10**6, WATTS), TRUE, members=1, steps=8, done=1, fraction=0.25)
    machine.burn(PASS_S)
    assert [allowance.fraction_used(step) for step in (0, 2, 8, 9)] == [0, 0.25, 1, 1]


def test_a_checkpoint_is_paid_and_is_no_step(machine: Machine) -> None:
    allowance = EnsembleAllowance(Spending(2_000, WATTS), TRUE, members=1)
    allowance.told(Progress("validating", 0, 0.0))
    before = allowance.fraction_used(1)
    machine.burn(0.05)
    assert allowance.spent_beside() == pytest.approx(50 * WATTS, rel=0.5)
    assert allowance.fraction_used(1) == pytest.approx(before, abs=0.01)
