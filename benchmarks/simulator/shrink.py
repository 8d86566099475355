"""From a plan that goes wrong to the least one that still does."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace

from benchmarks.simulator.plan import Message, Plan

SEEDS = 8  # of latencies, tried for each smaller plan: without a fault the same moment may need other ones
Plays = Callable[[Plan], list[str]]


def shrink(plan: Plan, play: Plays) -> Plan:
    """The smallest plan found whose history goes wrong: fewer messages and faults first, then simpler ones."""
    while True:
        failing = (_failing(smaller, play) for smaller in _smaller(plan))
        smaller = next((one for one in failing if one is not None), None)
        if smaller is None:
            return plan
        plan = smaller


def _failing(plan: Plan, play: Plays) -> Plan | None:
    tries = [replace(plan, seed=plan.seed + offset) for offset in range(SEEDS)]
    return next((one for one in tries if play(one)), None)


def _smaller(plan: Plan) -> Iterator[Plan]:
    if len(plan.messages) > 1:
        for place in range(len(plan.messages)):
            yield replace(plan, messages=plan.messages[:place] + plan.messages[place + 1 :])
    for place in range(len(plan.faults)):
        yield replace(plan, faults=plan.faults[:place] + plan.faults[place + 1 :])
    if plan.workers > 1:
        last = plan.workers - 1
        faults = [replace(one, who=last) if one.who == plan.workers else one for one in plan.faults if one.who != last]
        yield replace(plan, workers=last, faults=tuple(faults))
    for simpler in (replace(plan, batch=1), replace(plan, slowest_s=0.002), replace(plan, limit_mj=1_000_000)):
        if simpler != plan:
            yield simpler
    for place, message in enumerate(plan.messages):
        for plainer in _plainer(message):
            yield replace(plan, messages=(*plan.messages[:place], plainer, *plan.messages[place + 1 :]))


def _plainer(message: Message) -> Iterator[Message]:
    plain = Message(message.kind, at_s=0.0, deadline_s=60.0)
    for name in (
        "fate",
        "copies",
        "deadline_s",
        "budget_mj",
        "used_mj",
        "work_s",
        "at_s",
        "urgent",
        "cancel_s",
        "question",
    ):
        if getattr(message, name) != getattr(plain, name):
            yield replace(message, **{name: getattr(plain, name)})
