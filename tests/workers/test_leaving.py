"""What a training leaves for another attempt: how often, what is gone on from, what becomes of a full disk."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from nvp_agentkit.training import Checkpoint, MemberRecipe
from nvp_agentkit.training.checkpoint import first_checkpoint
from nvp_agentkit.workers.compute.call import Call
from nvp_agentkit.workers.compute.operations.allowance import EnsembleAllowance
from nvp_agentkit.workers.compute.operations.leaving import Earlier, Leaving
from nvp_agentkit.workers.compute.wire import BlockingWire
from tests.training.conftest import SMALL

from .machine import Machine
from .test_allowance import TRUE, WATTS

RECIPES = [MemberRecipe("voter-0", SMALL, 0.6), MemberRecipe("voter-1", replace(SMALL, seed=1), 0.4)]


@pytest.fixture(scope="module")
def run() -> Checkpoint:
    return first_checkpoint(SMALL, SMALL.first_variables())


@pytest.fixture
def pipe() -> Iterator[tuple[BlockingWire, BlockingWire]]:
    """The front's end and the child's."""
    near, far = socket.socketpair()
    with near, far:
        near.settimeout(5)
        yield BlockingWire(near), BlockingWire(far)


def leaving_in(folder: Path, child: BlockingWire) -> Leaving:
    params = {"granted_mj": 10_000, "watts_per_core": WATTS, "out": str(folder), "attempt": "job 1"}
    call = Call(params, [], child)
    allowance = EnsembleAllowance(call.spending, TRUE, members=2, steps=10)
    return Leaving(call, allowance, RECIPES, Earlier())


def told(front: BlockingWire) -> dict[str, Any]:
    progress: dict[str, Any] = front.receive()["progress"]
    return progress


def test_a_checkpoint_is_due_when_its_share_of_the_joules_is_used_and_read_as_it_was_left(
    tmp_path, pipe, run, machine: Machine
) -> None:
    front, child = pipe
    leaving = leaving_in(tmp_path, child)
    assert not leaving.due(1)
    machine.burn(0.02 * 10 / WATTS + 0.01)
    assert leaving.due(4)
    leaving.save(run._replace(state=run.state._replace(step=run.state.step + 4)), SMALL)
    assert not leaving.due(4)
    left = told(front)["left"]
    assert left == {"models": [], "run": str(tmp_path / "voter-0.run")}
    earlier = Earlier.read(left, RECIPES)
    assert (earlier.begun, earlier.steps_in_all, earlier.fraction) == (True, 4, 0.4)
    assert earlier.note == "goes on from step 4"
    assert not Earlier.read({"models": [], "run": None}, RECIPES).begun


def test_what_cannot_be_gone_on_from_is_left_aside_and_said(tmp_path, pipe, run) -> None:
    front, child = pipe
    leaving_in(tmp_path, child).save(run, SMALL)
    left = told(front)["left"]
    of_another_recipe = Earlier.read(left, [replace(RECIPES[0], config=replace(SMALL, batch_size=2))])
    path = Path(left["run"])
    path.write_bytes(path.read_bytes()[:-9])
    truncated = Earlier.read(left, RECIPES)
    for earlier in (of_another_recipe, truncated):
        assert not earlier.begun
        assert earlier.note is not None
        assert earlier.note.startswith("begins anew, for what was done before cannot be read: ")


def test_a_disk_that_takes_no_checkpoint_is_said_and_ends_no_training(tmp_path, pipe, run) -> None:
    front, child = pipe
    leaving_in(tmp_path / "gone", child).save(run, SMALL)
    said = told(front)
    assert "left" not in said
    assert "make room there" in said["note"]
