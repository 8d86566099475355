"""The whole stack: it comes up, stays up, goes down, and leaves nothing behind whatever happens to its owner."""

from __future__ import annotations

import asyncio
import importlib.util
import json
import os
import signal
import subprocess
import time
from pathlib import Path

import psutil
import pytest
from redis.asyncio import Redis

from nvp_agentkit.embedded import children, control, lock, worker
from nvp_agentkit.embedded.stack import Stack, StackEvent
from nvp_agentkit.embedded.stackfile import read_stack
from nvp_agentkit.embedded.supervisor import Supervisor
from nvp_agentkit.errors import DataFolderInUse, StackError, StackNotRunning, StoreUnavailable
from nvp_agentkit.lineage.graph import Graph
from nvp_agentkit.settings import TETHERED_TO, Settings

_program = importlib.util.spec_from_file_location("stack_program", Path(__file__).with_name("stack_program.py"))
stack_program = importlib.util.module_from_spec(_program)
_program.loader.exec_module(stack_program)
spec = stack_program.spec

ONCE = ["starting", "ready"]


def sleeper(mark: str) -> subprocess.Popen[bytes]:
    return subprocess.Popen(["sleep", "600"], env={TETHERED_TO: mark})


async def until(condition, *, within_s: float = 10.0) -> None:
    deadline = time.monotonic() + within_s
    while not condition():
        assert time.monotonic() < deadline
        await asyncio.sleep(0.02)


async def test_stores_and_workers_come_up_and_go_down_within_ten_seconds(data_dir: Path) -> None:
    events: list[StackEvent] = []
    supervisor = Supervisor(Settings(data_dir=data_dir), [spec("a"), spec("b")], on_event=events.append)
    async with supervisor:
        await supervisor.ready(timeout_s=60)
        found = read_stack(data_dir)
        assert (data_dir / "stack.json").stat().st_mode & 0o777 == 0o600
        assert found.over(Settings()).neo4j_password == supervisor.settings.neo4j_password is not None
        assert {event.name for event in events if event.state == "ready"} == {"valkey", "arcadedb", "a", "b"}
        began = time.monotonic()
    assert time.monotonic() - began < 10
    assert [event.name for event in events if event.state == "ended"][:2] == ["b", "a"]
    with pytest.raises(StackNotRunning, match="nvp up"):
        read_stack(data_dir)


async def test_a_data_folder_has_one_stack(run_stack, half_stack: Settings, data_dir: Path) -> None:
    process = run_stack(NVP_NEO4J_URI=half_stack.neo4j_uri, NVP_NEO4J_USER=half_stack.neo4j_user,
                        NVP_NEO4J_PASSWORD=half_stack.neo4j_password, NVP_NEO4J_DATABASE=half_stack.neo4j_database)
    with pytest.raises(DataFolderInUse, match=rf"process {process.pid}.*--data-dir"):
        await Stack(half_stack).start()
    assert await control.down(data_dir) == process.pid
    assert process.wait(timeout=1) == 0
    with pytest.raises(StackNotRunning):
        await control.down(data_dir)


async def test_kill_9_of_the_supervisor_leaves_no_process_and_the_next_start_finds_the_data(
    run_stack, data_dir: Path
) -> None:
    process = run_stack()
    async with Redis.from_url(read_stack(data_dir).redis_url) as redis:
        await redis.set("kept", "yes")
    assert len(lock.left_over(data_dir)) == 6  # two stores, two workers and a child of each
    process.kill()
    process.wait()
    await until(lambda: not lock.left_over(data_dir), within_s=5)
    with pytest.raises(StackNotRunning):
        read_stack(data_dir)

    run_stack()
    assert len(lock.left_over(data_dir)) == 6
    async with Redis.from_url(read_stack(data_dir).redis_url) as redis:
        assert await redis.get("kept") == b"yes"
    await control.down(data_dir)


@pytest.mark.parametrize("stopped", ["supervisor", "valkey"])
async def test_down_ends_a_stack_of_which_something_is_stopped(
    run_stack, half_stack: Settings, data_dir: Path, stopped: str
) -> None:
    process = run_stack(NVP_NEO4J_URI=half_stack.neo4j_uri, NVP_NEO4J_USER=half_stack.neo4j_user,
                        NVP_NEO4J_PASSWORD=half_stack.neo4j_password, NVP_NEO4J_DATABASE=half_stack.neo4j_database)
    if stopped == "supervisor":
        process.send_signal(signal.SIGSTOP)
        file = data_dir / "stack.json"
        file.write_text(json.dumps(json.loads(file.read_bytes()) | {"ends_within_s": 0.5}))  # so long it is waited for
    else:
        async with Redis.from_url(read_stack(data_dir).redis_url) as redis:
            os.kill((await redis.info("server"))["process_id"], signal.SIGSTOP)
    assert await asyncio.wait_for(control.down(data_dir), 10) == process.pid
    assert lock.left_over(data_dir) == []
    assert process.wait(timeout=1) == (-signal.SIGKILL if stopped == "supervisor" else 0)


async def test_a_stack_that_does_not_end_is_not_said_to_have_ended(data_dir: Path, monkeypatch) -> None:
    held = lock.acquire(data_dir)
    monkeypatch.setattr(control, "STARTING_S", 0.2)
    monkeypatch.setattr(control, "PATIENCE_S", 0.0)
    monkeypatch.setattr(os, "kill", lambda pid, number: None)
    with pytest.raises(StackError, match=f"process {os.getpid()}.*does not end"):
        await control.down(data_dir)
    held.release()


@pytest.mark.parametrize("after_s", [0.3, 1.0, 2.0, 4.0])
def test_a_signal_at_any_moment_of_the_start_leaves_nothing_after_ten_seconds(run_stack, data_dir, after_s) -> None:
    process = run_stack(wait=False)
    time.sleep(after_s)
    process.send_signal(signal.SIGINT)
    process.wait(timeout=10)
    assert lock.left_over(data_dir) == []


async def test_what_an_earlier_stack_left_running_is_ended_by_the_next(half_stack: Settings) -> None:
    careless, neighbour = sleeper(str(half_stack.data_dir.resolve())), sleeper(f"{half_stack.data_dir.resolve()}-2")
    stack = Stack(half_stack)
    await stack.start()
    await stack.stop()
    assert careless.wait(timeout=1) == -signal.SIGKILL
    assert neighbour.poll() is None
    neighbour.kill()
    neighbour.wait()


async def test_a_stack_in_a_folder_inside_the_data_folder_is_left_alone(half_stack: Settings) -> None:
    inside = half_stack.data_dir.resolve() / "inside"
    held, its_own = lock.acquire(inside), [sleeper(str(inside)), sleeper(str(inside / "valkey"))]
    stack = Stack(half_stack)
    await stack.start()
    await stack.stop()
    assert [one.poll() for one in its_own] == [None, None]
    assert len(lock.left_over(inside)) == len(its_own)
    assert lock.left_over(half_stack.data_dir) == []
    held.release()
    for one in its_own:
        one.kill()
        one.wait()


async def test_a_worker_that_ends_is_started_again(half_stack: Settings) -> None:
    events: list[StackEvent] = []

    def states() -> list[str]:
        return [event.state for event in events if event.name == "a"]

    async with Supervisor(half_stack, [spec("a")], on_event=events.append) as stack:
        await stack.ready(timeout_s=30)
        async with Redis.from_url(stack.settings.redis_url) as redis:
            pid = int(await redis.hget("nvp:{registry}:worker:a", "pid"))
        scratch = ("TMPDIR", str(half_stack.data_dir / "tmp"))  # what a killed worker leaves is cleared at a start
        assert scratch in psutil.Process(pid).environ().items()
        os.kill(pid, signal.SIGKILL)
        await until(lambda: states() == [*ONCE, "restarting", *ONCE])
        assert len(lock.left_over(half_stack.data_dir)) == 3  # the dead worker's child went with it


async def test_a_worker_that_cannot_start_is_told_with_the_end_of_its_log(half_stack: Settings) -> None:
    async with Supervisor(half_stack, [spec("a"), spec("b", "dies")], on_event=lambda event: None) as stack:
        with pytest.raises(StackError, match=r"(?s)worker b ended with status 1.*3 times.*no such model"):
            await stack.ready(timeout_s=30)


async def test_the_log_of_a_worker_that_never_ends_does_not_grow_without_end(
    half_stack: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(worker, "LOG_BYTES", 2_000)
    log = half_stack.data_dir / "logs" / "a.log"
    async with Supervisor(half_stack, [spec("a", "talks")], on_event=lambda event: None) as stack:
        await stack.ready(timeout_s=30)
        await until(log.with_suffix(".log.1").exists)
        set_aside = log.with_suffix(".log.1").read_bytes()
        await until(lambda: log.with_suffix(".log.1").read_bytes() != set_aside)
    assert set(log.read_bytes().splitlines()) | set(set_aside.splitlines()) == {b"x" * 99}


async def test_a_worker_ends_before_the_one_that_takes_its_place_begins(half_stack: Settings) -> None:
    events: list[StackEvent] = []
    async with Supervisor(half_stack, [spec("a")], on_event=events.append) as stack:
        await stack.ready(timeout_s=30)
        await stack.replace("a", spec("b"))
        await stack.ready(timeout_s=30)
        told = [(event.name, event.state) for event in events if event.name in "ab"]
        assert told == [("a", "starting"), ("a", "ready"), ("a", "ended"), ("b", "starting"), ("b", "ready")]
        assert len(lock.left_over(half_stack.data_dir)) == 3  # a store, a worker and its child
        with pytest.raises(StackError, match="no worker a runs here"):
            await stack.replace("a", spec("c"))


async def test_a_replacement_that_is_interrupted_leaves_nothing(half_stack: Settings) -> None:
    async with Supervisor(soon(half_stack), [spec("a", "stubborn")], on_event=lambda event: None) as stack:
        await stack.ready(timeout_s=30)
        replacing = asyncio.create_task(stack.replace("a", spec("b")))
        await asyncio.wait({replacing}, timeout=0.3)
        replacing.cancel()
        await asyncio.wait({replacing})
    assert lock.left_over(half_stack.data_dir) == []


def soon(settings: Settings) -> Settings:
    """With workers that drain for a moment."""
    return settings.model_copy(update={"drain_timeout_s": 0.5})


async def test_a_worker_has_its_drain_before_the_stack_ends_however_long_that_is(half_stack: Settings) -> None:
    settings = half_stack.model_copy(update={"drain_timeout_s": 6.0})
    async with Supervisor(settings, [spec("a", "drains"), spec("b")], on_event=lambda event: None) as stack:
        await stack.ready(timeout_s=30)
        assert read_stack(half_stack.data_dir).ends_within_s > 6.0
    assert (half_stack.data_dir / "logs" / "a.log").read_text() == "drained\n"


async def test_a_worker_that_will_not_end_is_ended(half_stack: Settings) -> None:
    async with Supervisor(soon(half_stack), [spec("a"), spec("b", "stubborn")], on_event=lambda event: None) as stack:
        await stack.ready(timeout_s=30)
        began = time.monotonic()
    assert 3 < time.monotonic() - began < 10


async def test_a_store_that_ends_comes_back_where_it_was(half_stack: Settings) -> None:
    events: list[StackEvent] = []
    async with Supervisor(half_stack, [], on_event=events.append) as stack:
        async with Redis.from_url(stack.settings.redis_url) as redis:
            await redis.set("kept", "yes")
            os.kill((await redis.info("server"))["process_id"], signal.SIGKILL)
        await until(lambda: [event.state for event in events] == [*ONCE, "restarting", *ONCE])
        async with Redis.from_url(stack.settings.redis_url) as redis:
            assert await redis.get("kept") == b"yes"


class Launches:
    """Every process that this one launches, by the folder it works in; the first ones of each are killed at once."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.of: dict[str, list[subprocess.Popen[bytes]]] = {}
        self.killed = 1
        self._launch = children.launch
        monkeypatch.setattr(children, "launch", self._one)

    def _one(self, *args, cwd: Path, **how) -> subprocess.Popen[bytes]:
        process = self._launch(*args, cwd=cwd, **how)
        self.of.setdefault(cwd.name, []).append(process)
        if len(self.of[cwd.name]) <= self.killed:
            process.kill()
        return process


async def test_stores_that_are_killed_while_they_start_are_started_again(data_dir: Path, monkeypatch) -> None:
    events: list[StackEvent] = []
    launches, again = Launches(monkeypatch), ["starting", "restarting"]
    stack = Supervisor(Settings(data_dir=data_dir), [], on_event=events.append)
    try:
        async with asyncio.TaskGroup() as group:
            starting = group.create_task(stack.start())
            await until((data_dir / "arcadedb" / "databases").exists, within_s=30)
            launches.of["arcadedb"][-1].kill()
        assert [event.state for event in events if event.name == "valkey"] == [*again, *ONCE]
        assert [event.state for event in events if event.name == "arcadedb"] == [*again, *again, *ONCE]
        async with Graph.connect(starting.result()) as graph, Redis.from_url(starting.result().redis_url) as redis:
            await graph.ready()
            assert await redis.ping()
    finally:
        await stack.stop()


async def test_a_store_that_ends_at_every_start_is_told_and_the_next_start_works(
    half_stack: Settings, monkeypatch
) -> None:
    Launches(monkeypatch).killed = 3
    with pytest.raises(StackError, match=r"(?s)started 3 times, valkey ended with status -9.*valkey\.log"):
        await Stack(half_stack).start()
    stack = Stack(half_stack)
    assert (await stack.start()).redis_url
    await stack.stop()


async def test_named_servers_are_used_and_none_is_started(settings: Settings) -> None:
    stack = Stack(settings)
    found = await stack.start()
    assert stack.servers == {}
    assert (found.redis_url, found.neo4j_uri) == (settings.redis_url, settings.neo4j_uri)
    await stack.stop()


@pytest.mark.parametrize(
    ("wrong", "variable"),
    [({"redis_url": "redis://:secret@127.0.0.1:1/0"}, "NVP_REDIS_URL=redis://127.0.0.1:1"),
     ({"neo4j_uri": "bolt://127.0.0.1:1", "neo4j_password": "secret"}, "NVP_NEO4J_URI=bolt://127.0.0.1:1")],
)  # fmt: skip
async def test_a_named_server_that_is_away_is_said_at_once(data_dir: Path, wrong, variable: str) -> None:
    with pytest.raises(StoreUnavailable, match=variable) as caught:
        await Stack(Settings(data_dir=data_dir, **wrong)).start()
    assert "secret" not in str(caught.value)
    assert lock.holder(data_dir) is None


async def test_a_data_folder_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StackError, match=r"file/nvp.*--data-dir"):
        await Stack(Settings(data_dir=tmp_path / "file" / "nvp")).start()
