"""A stack may be killed at any moment: rounds of ``python -m benchmarks kill_stack``, with fewer workers."""

from __future__ import annotations

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
    """Every other stack is killed while it comes up, the others while they are at work."""
    rng = random.Random(seed)
    at_work, victim = bool(seed % 2), VICTIMS[-seed]
    return Plan(demo=False, fresh=False, victim=victim, which=rng.random(), after_s=3 * rng.random(), at_work=at_work)


@pytest.mark.slow
@pytest.mark.timeout(400)  # some 40 s where nothing else runs
async def test_killed_anywhere_nothing_is_left_running_nothing_is_lost_and_the_next_start_works(tmp_path: Path) -> None:
    outcome = await play(tmp_path, [plan(seed) for seed in range(1, 6)], SMALL)
    assert (outcome.kills, outcome.left_over, outcome.unusable, outcome.broken) == (5, 0, 0, [])
    assert outcome.promises > 5
