"""The front's own look at its child: work that does not stop by itself is ended before it is over its budget."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import time

import pytest

from nvp_agentkit.energy import kernel
from nvp_agentkit.errors import BudgetExhausted
from nvp_agentkit.settings import Settings
from nvp_agentkit.workers.compute.cost import Cost
from nvp_agentkit.workers.compute.front import LOOK_EVERY_S, ComputeChild

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="the kernel is asked through /proc")

# No allowance reaches the child, so nothing but the front can stop it.
ENDLESS = {"domain": "plasma_physics", "trajectories": 64, "frames": 4000, "size": 32, "seed": 0, "granted_mj": 10**9}

SPINS_A_SECOND = "import time\nwhile time.process_time() < 1: pass"
SPINS = [sys.executable, "-c", "while True: pass"]


async def test_work_that_costs_too_much_is_ended_and_says_what_it_cost(
    shared_child: ComputeChild, settings: Settings
) -> None:
    costs: list[Cost] = []
    params = {**ENDLESS, "out": str(settings.data_dir / "never"), "watts_per_core": 4.0}
    await shared_child.start()
    other = await asyncio.create_subprocess_exec(sys.executable, "-c", SPINS_A_SECOND)  # none of the call's
    assert await other.wait() == 0
    with pytest.raises(BudgetExhausted, match="raise `budget_j`"):
        await shared_child.call("simulate", params, on_cost=costs.append, too_much=lambda so_far: so_far.cpu_s > 1.0)
    (cost,) = costs
    assert 1.0 < cost.cpu_s < 1.0 + 2 * LOOK_EVERY_S * (os.cpu_count() or 1) + 0.2
    assert shared_child.pid is not None
    assert kernel.cpu_s_of(shared_child.pid) is None


async def test_after_that_the_next_call_is_counted_from_nothing(
    shared_child: ComputeChild, settings: Settings
) -> None:
    params = {**ENDLESS, "out": str(settings.data_dir / "never"), "watts_per_core": 4.0}
    for _ in range(2):
        with pytest.raises(BudgetExhausted):
            await shared_child.call("simulate", params, too_much=lambda so_far: so_far.cpu_s > 0.5)
    settings.data_dir.mkdir(exist_ok=True)
    small = {**params, "trajectories": 3, "frames": 4, "out": str(settings.data_dir / "done")}
    answer = await shared_child.call("simulate", small, too_much=lambda so_far: so_far.cpu_s > 60)
    assert answer.values["about"]["frames"] == 4


def test_a_process_is_seen_from_outside_as_it_sees_itself() -> None:
    spun = time.process_time() + 0.2
    while time.process_time() < spun:
        pass
    seen = kernel.cpu_s_of(os.getpid())
    assert seen == pytest.approx(time.process_time(), abs=0.05)
    assert kernel.peak_gb_of(os.getpid()) > 0.01
    assert kernel.cpu_s_of(2**22 + 1) is None


@pytest.mark.parametrize("program", ["while True: pass", f"import subprocess; subprocess.run({SPINS!r})"])
def test_what_a_leader_started_is_seen_without_its_own_share(program: str) -> None:
    leader = subprocess.Popen([sys.executable, "-c", program], start_new_session=True)
    try:
        until = time.monotonic() + 20
        while max(kernel.cpu_s_of(leader.pid), kernel.cpu_s_beside(leader.pid)) < 0.3:
            assert time.monotonic() < until
            time.sleep(0.02)
        assert (kernel.cpu_s_beside(leader.pid) >= 0.3) == ("subprocess" in program)
    finally:
        os.killpg(leader.pid, signal.SIGKILL)
        leader.wait()
