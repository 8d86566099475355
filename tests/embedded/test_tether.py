"""A child dies with its parent, in every order of events."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from nvp_agentkit.embedded import children, tether
from nvp_agentkit.errors import StackError

SLEEP = ["sleep", "600"]


def is_alive(pid: int) -> bool:
    try:
        return "\nState:\tZ" not in Path(f"/proc/{pid}/status").read_text()
    except FileNotFoundError:
        return False


def wait_for(condition: Callable[[], object]) -> None:
    deadline = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def wait_until_gone(pid: int) -> None:
    wait_for(lambda: not is_alive(pid))


def parent_of(child: str) -> subprocess.Popen[str]:
    """A process that runs ``child``, Python source that starts a process ``p``; it says the pid and waits."""
    source = f"import os, subprocess, sys, time\n{child}\nprint(p.pid, flush=True)\ntime.sleep(600)"
    return subprocess.Popen([sys.executable, "-c", source], stdout=subprocess.PIPE, text=True)


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_a_tethered_command_dies_with_its_parent(number: int) -> None:
    tethered = f"[sys.executable, {tether.__file__!r}, str(os.getpid()), *{SLEEP}]"
    with parent_of(f"p = subprocess.Popen({tethered})") as parent:
        pid = int(parent.stdout.readline())
        wait_for(lambda: Path(f"/proc/{pid}/cmdline").read_text().startswith("sleep"))  # it has become the command
        parent.send_signal(number)
    wait_until_gone(pid)


def test_where_the_kernel_does_not_help_a_watcher_ends_the_command() -> None:
    watching = f"from nvp_agentkit.embedded.tether import watch; import os; watch(os.getppid(), {SLEEP})"
    with parent_of(f"p = subprocess.Popen([sys.executable, '-c', {watching!r}])") as parent:
        watcher = int(parent.stdout.readline())
        children_of = Path(f"/proc/{watcher}/task/{watcher}/children")
        wait_for(children_of.read_text)
        command = int(children_of.read_text())
        parent.kill()
    wait_until_gone(command)
    wait_until_gone(watcher)


def test_a_parent_that_died_before_the_tether_was_tied_is_noticed() -> None:
    ended = subprocess.run([sys.executable, tether.__file__, "1", *SLEEP], timeout=10, check=False)
    assert ended.returncode == -signal.SIGKILL


async def test_a_launched_command_has_a_session_of_its_own_and_its_group_ends_with_it(tmp_path: Path) -> None:
    process = children.launch(
        ["sh", "-c", "sleep 600 & echo $!; wait"], env=dict(os.environ), log=tmp_path / "log", folder=tmp_path
    )
    assert not await children.gone(process, within_s=1)
    said = (tmp_path / "log").read_text()
    assert os.getsid(process.pid) == process.pid != os.getsid(0)
    assert await children.end(process, grace_s=5) == -signal.SIGTERM
    wait_until_gone(int(said))


async def test_a_launch_outside_the_main_thread_is_refused(tmp_path: Path) -> None:
    with pytest.raises(StackError, match="main thread"):
        await asyncio.to_thread(children.launch, SLEEP, env={}, log=tmp_path / "log", folder=tmp_path)
