"""The compute child: one process, one call at a time, whose death is an answer and never a hang."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest
from structlog.testing import capture_logs

from benchmarks.stuck_child import Line
from nvp_agentkit.energy.meter import modelled
from nvp_agentkit.errors import Cancelled, ComputeFailed, DeadlineExceeded, InvalidField, NvpError, UnknownDomain
from nvp_agentkit.settings import TETHERED_TO, Settings, compute_environment
from nvp_agentkit.streams import Completion, Consumer, Delivery, one_by_one, publish
from nvp_agentkit.workers.compute import front
from nvp_agentkit.workers.compute.arena import Arena
from nvp_agentkit.workers.compute.cost import Cost
from nvp_agentkit.workers.compute.front import ComputeChild

ROOT = Path(__file__).parents[2]
QUICK = {"domain": "plasma_physics", "trajectories": 1, "frames": 4, "size": 16, "seed": 0}
ENDLESS = {**QUICK, "trajectories": 8, "frames": 4000, "size": 64}  # many minutes
JOULES = {"granted_mj": 10_000_000, "watts_per_core": 4.0}


@pytest.fixture
async def child(shared_child: ComputeChild) -> ComputeChild:
    """One that runs."""
    await shared_child.start()
    return shared_child


@pytest.fixture
async def unstarted(settings: Settings) -> AsyncIterator[ComputeChild]:
    child = ComputeChild(compute_environment(settings))
    yield child
    await child.close()


@pytest.fixture
def quick(tmp_path: Path) -> dict[str, Any]:
    return {**QUICK, **JOULES, "out": str(tmp_path / "quick.safetensors")}


@pytest.fixture
def endless(tmp_path: Path) -> dict[str, Any]:
    return {**ENDLESS, **JOULES, "out": str(tmp_path / "endless.safetensors")}


def exists(pid: int | None) -> bool:
    return pid is not None and psutil.pid_exists(pid)


def test_a_child_is_found_by_its_stacks_folder_and_knows_nothing_else_of_it(settings: Settings, monkeypatch) -> None:
    monkeypatch.setenv(TETHERED_TO, "/data")
    monkeypatch.setenv("NVP_REDIS_URL", "redis://:secret@h")
    assert {n: v for n, v in compute_environment(settings).items() if n.startswith("NVP_")} == {TETHERED_TO: "/data"}


async def test_a_call_tells_its_progress_in_order_and_what_it_cost(child: ComputeChild, quick: dict[str, Any]) -> None:
    lines: list[dict[str, Any]] = []
    costs: list[Cost] = []
    answer = await child.call("simulate", quick, on_progress=lines.append, on_cost=costs.append)
    assert answer.values["about"]["frames"] == 4
    steps = [line["step"] for line in lines]
    assert steps == sorted(steps)
    assert len(steps) > 4
    used = [line["used_mj"] for line in lines]
    assert used == sorted(used)
    assert costs == [answer.cost]
    assert 0 < answer.cost.cpu_s <= answer.cost.wall_s * (os.cpu_count() or 1) + 0.1


async def test_what_an_operation_refuses_comes_back_as_its_class(child: ComputeChild, quick: dict[str, Any]) -> None:
    with pytest.raises(UnknownDomain, match=r"no simulator for domain 'alchemy'; known: .*plasma_physics"):
        await child.call("simulate", {**quick, "domain": "alchemy"})


async def test_a_model_that_the_child_does_not_know_is_asked_for_again_and_not_refused(child: ComputeChild) -> None:
    frames = np.zeros((1, 2, 16, 16), np.float32)
    with pytest.raises(ComputeFailed, match="not loaded in this worker any more; ask again") as caught:
        await child.call("predict", {"model_id": "model:sha256:before-the-crash"}, [frames])
    assert caught.value.retryable


async def test_a_defect_in_an_operation_is_an_answer_and_the_child_lives_on(
    child: ComputeChild, quick: dict[str, Any]
) -> None:
    with pytest.raises(NvpError, match="divine: KeyError") as caught:
        await child.call("divine", {})
    assert type(caught.value) is NvpError  # nothing the asker could change, and not tried again
    pid = child.pid
    await child.call("simulate", quick)
    assert child.pid == pid


async def test_a_hung_child_is_ended_at_the_deadline_and_the_next_call_works(
    child: ComputeChild, quick: dict[str, Any]
) -> None:
    hung, generation = child.pid, child.generation
    assert hung is not None
    os.kill(hung, signal.SIGSTOP)  # deaf to everything, like a kernel that never returns
    began = time.monotonic()
    with capture_logs() as said, pytest.raises(DeadlineExceeded, match="simulate: ended at its deadline"):
        await child.call("simulate", quick, deadline=time.time() + 0.3)
    assert [(one["event"], "deadline" in one["reason"]) for one in said] == [(front.CHILD_ENDED, True)]
    assert time.monotonic() - began < 3
    assert not exists(hung)
    await child.call("simulate", quick)
    assert child.generation == generation + 1


async def test_a_child_that_holds_the_interpreters_lock_starves_no_lease(
    bench, request_of, settings: Settings, quick: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """As a native library may hold it, here for five leases."""
    monkeypatch.setattr(front, "CHILD_MODULE", "benchmarks.stuck_child")
    here = {TETHERED_TO: str(settings.data_dir), "PYTHONPATH": str(ROOT)}
    child = ComputeChild(compute_environment(settings) | here)
    await child.start()
    attempts, stop = [], asyncio.Event()

    async def handle(delivery: Delivery) -> Completion:
        attempts.append(delivery.attempt)
        await child.call("simulate", {**quick, "variant": "hold-2"})
        stop.set()
        return Completion()

    consumers = [
        Consumer(bench.system.redis, kind="predict", group="inference", name=name, handle=one_by_one(handle),
                 refuse=lambda delivery, error: Completion(), lease_s=0.4)
        for name in ("holder", "rival")
    ]  # fmt: skip
    await publish(bench.system.redis, bench.account, "predict", bench.delivery(request_of()).event)
    try:
        async with asyncio.timeout(60):
            await asyncio.gather(*(consumer.run(stop) for consumer in consumers))
    finally:
        await child.close()
    (_, done) = Line.all_of(settings.data_dir)
    assert done.silent_s is not None
    assert done.silent_s > 1.9
    assert attempts == [1]


async def test_a_killed_child_fails_its_call_and_the_next_call_works(
    child: ComputeChild, endless: dict[str, Any], quick: dict[str, Any]
) -> None:
    lines: list[dict[str, Any]] = []
    costs: list[Cost] = []

    def kill(line: dict[str, Any]) -> None:
        lines.append(line)
        assert child.pid is not None
        os.kill(child.pid, signal.SIGKILL)  # what an out-of-memory killer does

    generation = child.generation
    await child.call("simulate", quick)  # which the next call does not pay for
    with capture_logs() as said, pytest.raises(ComputeFailed, match=rf"simulate: {front.DIED} \(signal 9\)"):
        await child.call("simulate", endless, on_progress=kill, on_cost=costs.append)
    assert [(one["event"], front.DIED in one["reason"]) for one in said] == [(front.CHILD_ENDED, True)]
    await child.call("simulate", quick)
    assert child.generation == generation + 1
    # What the dead one used is known from the kernel: what it had told itself, and the moment until its end.
    charged = modelled(costs[0].cpu_s, costs[0].wall_s, costs[0].rss_gb).mj
    assert 0.8 * lines[0]["used_mj"] <= charged <= 1.3 * lines[0]["used_mj"] + 400


async def test_a_call_waits_for_its_turn_until_its_deadline_and_harms_nobody(
    child: ComputeChild, endless: dict[str, Any]
) -> None:
    working, generation = asyncio.Event(), child.generation
    first = asyncio.create_task(child.call("simulate", endless, on_progress=lambda _: working.set()))
    await working.wait()
    with pytest.raises(DeadlineExceeded, match="its turn did not come"):
        await child.call("simulate", endless, deadline=time.time() + 0.2)
    assert not first.done()
    await child.interrupt("that was enough")
    with pytest.raises(Cancelled, match="that was enough"):  # it stops at its next step, alive
        await first
    assert child.generation == generation


async def test_short_work_whose_turn_has_come_is_not_ended_at_its_deadline(
    child: ComputeChild, quick: dict[str, Any]
) -> None:
    generation = child.generation
    with pytest.raises(DeadlineExceeded, match="ended at its deadline"):
        await child.call("simulate", quick, deadline=time.time() + 0.02)
    await child.call("simulate", quick, deadline=time.time() + 20)
    await child.call("simulate", quick, deadline=time.time() + 0.02, at_least_s=20)
    assert child.generation == generation + 1


async def test_a_call_after_its_deadline_does_not_touch_the_child(child: ComputeChild, quick: dict[str, Any]) -> None:
    generation = child.generation
    with pytest.raises(DeadlineExceeded):
        await child.call("simulate", quick, deadline=time.time() - 1)
    await child.call("simulate", quick)
    assert child.generation == generation


async def test_a_cancelled_call_ends_the_child_says_what_it_cost_and_the_next_call_works(
    child: ComputeChild, endless: dict[str, Any], quick: dict[str, Any]
) -> None:
    working, costs = asyncio.Event(), list[Cost]()
    call = asyncio.create_task(
        child.call("simulate", endless, on_progress=lambda _: working.set(), on_cost=costs.append)
    )
    await working.wait()
    cancelled = child.pid
    call.cancel()
    with pytest.raises(asyncio.CancelledError):
        await call
    assert costs[0].cpu_s > 0
    assert not exists(cancelled)
    assert (await child.call("simulate", quick)).values["about"]["frames"] == 4


def held() -> tuple[int, int]:
    """Open descriptors of this process, and arenas it has mapped."""
    return sum(1 for _ in Path("/proc/self/fd").iterdir()), Path("/proc/self/maps").read_text().count("nvp-arena")


@pytest.mark.skipif(sys.platform != "linux", reason="/proc tells")
@pytest.mark.parametrize("broken", ["module", "program"])
async def test_a_child_that_does_not_come_up_leaves_nothing_behind_and_the_next_one_may(
    unstarted: ComputeChild, monkeypatch: pytest.MonkeyPatch, broken: str
) -> None:
    before = held()
    with monkeypatch.context() as patch:
        if broken == "module":
            patch.setattr(front, "CHILD_MODULE", "nobody.wrote.this")
        else:
            patch.setattr(sys, "executable", "/nowhere/python")
        with pytest.raises(ComputeFailed, match=r"did not come up \((exit status 1|.*No such file)") as caught:
            await unstarted.start()
    assert caught.value.retryable
    await asyncio.sleep(0)  # a transport closes its socket in the loop's next round
    assert held() == before
    await unstarted.start()


@pytest.mark.skipif(sys.platform != "linux", reason="/proc tells")
async def test_a_start_that_is_cancelled_leaves_nothing_behind_and_the_next_call_works(
    unstarted: ComputeChild, quick: dict[str, Any]
) -> None:
    before = held()
    for rounds in (1, 3, 20):
        starting = asyncio.create_task(unstarted.start())
        for _ in range(rounds):
            await asyncio.sleep(0)
        starting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await starting
        await asyncio.sleep(0)
        assert held() == before
    await unstarted.call("simulate", quick)


async def test_starting_twice_at_once_starts_one_child(unstarted: ComputeChild) -> None:
    await asyncio.gather(unstarted.start(), unstarted.start(), unstarted.start())
    assert unstarted.generation == 1


async def test_a_closed_child_leaves_no_process(unstarted: ComputeChild) -> None:
    await unstarted.start()
    pid = unstarted.pid
    await unstarted.close()
    assert not exists(pid)


async def test_the_child_knows_no_credential_and_no_address(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    secrets = {"NVP_REDIS_URL": "redis://:s3cret@x", "NVP_NEO4J_PASSWORD": "s3cret", "AWS_SECRET_ACCESS_KEY": "s3cret"}
    for name, value in secrets.items():
        monkeypatch.setenv(name, value)
    child = ComputeChild(compute_environment(settings))
    await child.start()
    process = psutil.Process(child.pid)
    environment, command = process.environ(), process.cmdline()
    await child.close()
    assert "JAX_COMPILATION_CACHE_DIR" in environment
    assert not [name for name in environment if name.startswith(("NVP_", "AWS_"))]
    assert "s3cret" not in str(environment)
    assert settings.redis_url not in str(command)


def test_arrays_go_through_the_arena_as_they_are_in_two_halves() -> None:
    arena = Arena.create(1 << 16)
    calls = [np.arange(12, dtype=np.float32).reshape(3, 4), np.eye(5, dtype=np.uint8)]
    answers = [np.full((2, 2), 7, np.float16)]
    places = arena.put(calls, upper=False)
    above = arena.put(answers, upper=True)
    assert all(place["offset"] % 64 == 0 for place in (*places, *above))
    for sent, got in zip(calls + answers, arena.take(places) + arena.take(above), strict=True):
        np.testing.assert_array_equal(sent, got, strict=True)
    arena.close()


def test_arrays_that_do_not_fit_their_half_are_refused_before_the_copy() -> None:
    arena = Arena.create(1 << 12)
    with pytest.raises(InvalidField, match="more than 2048 bytes in one call"):
        arena.put([np.zeros(513, np.float32)], upper=False)
    arena.close()
