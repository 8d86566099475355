"""A stack may be killed at any moment: rounds of ``python -m benchmarks kill_stack``, with fewer workers."""

from __future__ import annotations

import asyncio
import random
import sys
from pathlib import Path

import pytest

from benchmarks.kill_stack import VICTIMS, Commands, Plan, play

PROGRAM = str(Path(__file__).with_name("killed_stack.py"))
SMALL = Commands(
    up=lambda folder: (sys.executable, PROGRAM, "foreground", str(folder)),
    again=lambda folder: (sys.executable, PROGRAM, "again", str(folder)),
)


def plan(seed: int) -> Plan:
    """A supervisor is killed while its stack comes up, a child while it is at work."""
    rng, victim = random.Random(seed), VICTIMS[-seed]
    at_work = victim != "supervisor"
    return Plan(demo=False, fresh=False, victim=victim, which=rng.random(), after_s=3 * rng.random(), at_work=at_work)


@pytest.mark.slow
@pytest.mark.timeout(400)  # some 40 s where nothing else runs
async def test_two_stacks_killed_anywhere_leave_nothing_running_lose_nothing_and_start_again(tmp_path: Path) -> None:
    """Side by side, and neither disturbs the other."""
    stacks = {"a": (1, 2, 5), "b": (3, 4)}
    for name in stacks:
        (tmp_path / name).mkdir()
    outcomes = await asyncio.gather(
        *(play(tmp_path / name, [plan(seed) for seed in seeds], SMALL) for name, seeds in stacks.items())
    )
    assert [(one.left_over, one.unusable, one.broken) for one in outcomes] == [(0, 0, [])] * 2
    assert [one.kills for one in outcomes] == [3, 2]
    assert all(one.promises > 3 for one in outcomes)
