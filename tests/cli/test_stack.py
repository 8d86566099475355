"""`nvp up` and what looks at the stack it leaves: said in words or JSON, interrupted, killed."""

from __future__ import annotations

import asyncio
import json
import os
import random
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from pathlib import Path

import pytest
from redis.asyncio import Redis

from nvp_agentkit.cli import deployment, jobs
from nvp_agentkit.embedded import lock
from nvp_agentkit.embedded.place import write_private
from nvp_agentkit.embedded.stackfile import StackFile, read_stack
from nvp_agentkit.energy.ledger import Ledger
from nvp_agentkit.messages import JobProgressed, new_event
from nvp_agentkit.settings import Settings
from nvp_agentkit.streams import names
from nvp_agentkit.streams.health import announce
from nvp_agentkit.streams.progress import report

NVP = [sys.executable, "-m", "nvp_agentkit.cli"]
GONE_S = 10.0


@pytest.fixture
def data_dir(tmp_path: Path, compile_cache: Path) -> Iterator[Path]:
    """A folder on which nothing may run any more at the end."""
    folder = tmp_path / "nvp"
    folder.mkdir()
    (folder / "compile-cache").symlink_to(compile_cache)
    yield folder
    until = time.monotonic() + GONE_S
    while left := lock.left_over(folder):
        assert time.monotonic() < until, left
        time.sleep(0.05)


@pytest.fixture
def free_ports() -> int:
    """The first of as many ports in a row as a stack has workers, below those that the kernel hands out."""
    for first in random.sample(range(20_000, 32_000), 100):
        with ExitStack() as held, suppress(OSError):
            for port in range(first, first + len(deployment.WORKERS)):
                held.enter_context(socket.create_server(("127.0.0.1", port)))
            return first
    pytest.fail("no ports in a row")


def interrupted(*words: str) -> str:
    """What a command says that is interrupted once its first job is under way."""
    with subprocess.Popen(
        [*NVP, *words], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, start_new_session=True,
        env={**os.environ, "PYTHONUNBUFFERED": "1"},
    ) as process:  # fmt: skip
        assert process.stdout is not None
        assert any("simulating" in line for line in process.stdout)
        os.killpg(process.pid, signal.SIGINT)
        said = process.stdout.read()
        assert process.wait(timeout=GONE_S) == 130, said
    return said


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_a_stack_from_up_to_its_keepers_death(nvp, data_dir: Path, free_ports: int) -> None:
    # As a process of its own: the keeper it leaves behind is no child of this one.
    up = subprocess.run(
        [*NVP, "up", "--json", "--data-dir", str(data_dir)], capture_output=True, text=True, check=True,
        env=os.environ | {"NVP_METRICS_PORT": str(free_ports)},
    )  # fmt: skip
    keeper = json.loads(up.stdout)["pid"]
    try:
        assert json.loads(up.stdout) == {"ready": True, "pid": keeper, "data_dir": str(data_dir)}
        assert "valkey     ready" in up.stderr
        assert f"Running already on {data_dir}" in nvp("up", "--data-dir", data_dir).out
        status = nvp("status", "--json", "--data-dir", data_dir)
        assert status.json["ready"]
        assert {one["name"] for one in status.json["workers"]} == set(deployment.WORKERS)
        probes = read_stack(data_dir).probes
        assert probes == {name: f"http://127.0.0.1:{free_ports + k}" for k, name in enumerate(deployment.WORKERS)}
        for url in probes.values():
            with urllib.request.urlopen(f"{url}/ready", timeout=10) as said:
                assert said.read() == b"ok\n"
        opened = nvp("account", "create", "ace-1", "--limit-j", "3", "--json", "--data-dir", data_dir)
        assert opened.json["free_mj"] == 3000
        assert nvp("account", "list", "--data-dir", data_dir).out.splitlines()[1].split()[0] == "ace-1"
        doctor = nvp("doctor", "--json", "--data-dir", data_dir)
        assert {one["name"]: one["what"] for one in doctor.json["findings"] if one["state"] != "ok"} == {}
        looked_at = {one["name"] for one in doctor.json["findings"]}
        assert {"stack", "streams clock", "graph", *deployment.WORKERS} <= looked_at
        assert "worker starts" in nvp("logs", "tally", "--data-dir", data_dir).out
        assert "interrupted; the stack goes on with job " in interrupted("demo", "--data-dir", str(data_dir))
    finally:
        os.kill(keeper, signal.SIGKILL)
    until = time.monotonic() + GONE_S
    while lock.left_over(data_dir) and time.monotonic() < until:
        time.sleep(0.05)
    found = {one["name"]: one for one in nvp("doctor", "--json", "--data-dir", data_dir).json["findings"]}
    assert found["stack"]["what"].startswith("none runs")
    assert found["stack.json"]["state"] == "warning"
    assert "nvp up" in found["stack.json"]["remedy"]
    assert nvp("status", "--json", "--data-dir", data_dir).json["error"] == "stack_not_running"


@pytest.mark.parametrize("options", [(), ("--foreground",)], ids=["background", "foreground"])
def test_up_interrupted_is_130_and_leaves_nothing(data_dir: Path, options: tuple[str, ...]) -> None:
    with subprocess.Popen(
        [*NVP, "up", *options, "--data-dir", str(data_dir)],
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, start_new_session=True,
    ) as up:  # fmt: skip
        assert up.stdout is not None
        assert "valkey     ready" in up.stdout.readline()
        os.killpg(up.pid, signal.SIGINT)
        said = up.stdout.read()
        assert up.wait(timeout=GONE_S) == 130, said
    assert "Traceback" not in said
    assert "ended" in said
    assert lock.left_over(data_dir) == []


def test_a_stack_that_cannot_come_up_says_why(nvp, data_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NVP_REDIS_URL", "redis://127.0.0.1:1")
    refused = nvp("up", "--json", "--data-dir", data_dir)
    assert (refused.status, refused.json["error"]) == (1, "store_unavailable")
    assert "NVP_REDIS_URL" in refused.json["detail"]
    (line,) = (data_dir / "logs" / "stack.log").read_text().splitlines()
    assert json.loads(line) == refused.json


async def up_beside(data_dir: Path) -> asyncio.subprocess.Process:
    pipe = asyncio.subprocess.PIPE
    return await asyncio.create_subprocess_exec(*NVP, "up", "--data-dir", str(data_dir), stdout=pipe, stderr=pipe)


async def until_it_waits(up: asyncio.subprocess.Process) -> None:
    assert up.stderr is not None
    async with asyncio.timeout(60):
        said = (await up.stderr.readline()).decode()
    assert said.startswith("Data folder ")
    assert said.endswith(f" is in use by process {os.getpid()}; waiting until it is ready\n")


def write_stack(data_dir: Path, settings: Settings, *, started_ms: int) -> None:
    at = {"redis_url": str(settings.redis_url), "neo4j_uri": "bolt://", "neo4j_user": "", "neo4j_database": ""}
    file = StackFile(version="", pid=os.getpid(), started_ms=started_ms, neo4j_password=None, artifacts_url="", **at)
    write_private(data_dir / "stack.json", file.model_dump_json())


async def test_an_up_beside_another_waits_until_that_ones_stack_is_ready(
    redis: Redis, settings: Settings, data_dir: Path
) -> None:
    starting = lock.acquire(data_dir)
    up = await up_beside(data_dir)
    await until_it_waits(up)
    write_stack(data_dir, settings, started_ms=int(1000 * time.time()))
    for name in deployment.WORKERS:
        await announce(redis, name, "tests", name, "ready")
    out, _ = await up.communicate()
    assert (up.returncode, out.decode().splitlines()[0]) == (0, f"Running already on {data_dir}")
    for name in deployment.WORKERS:
        await redis.delete(names.worker(name, "tests"))
    starting.release()


async def test_an_up_beside_a_stack_that_had_the_time_to_be_ready_is_refused_at_once_with_what_is_not(
    redis: Redis, settings: Settings, data_dir: Path
) -> None:
    running = lock.acquire(data_dir)
    long_ago = time.time() - 2 * deployment.READY_S
    write_stack(data_dir, settings, started_ms=int(1000 * long_ago))
    for name in deployment.WORKERS:
        await announce(redis, name, "tests", name, "starting" if name == "tally" else "ready")
    up = await up_beside(data_dir)
    async with asyncio.timeout(60):  # half of what a stack that starts is waited for
        _, err = await up.communicate()
    assert up.returncode == 1
    assert f"is in use by process {os.getpid()}, and not ready there: " in err.decode()
    assert "tally" in err.decode()  # beside it, on a busy machine, those of which nothing was heard for too long
    assert "waiting" not in err.decode()
    for name in deployment.WORKERS:
        await redis.delete(names.worker(name, "tests"))
    running.release()


async def test_an_up_beside_another_that_does_not_come_up_says_so(data_dir: Path) -> None:
    starting = lock.acquire(data_dir)
    up = await up_beside(data_dir)
    await until_it_waits(up)
    starting.release()
    _, err = await up.communicate()
    assert up.returncode == 1
    assert "has ended; see " in err.decode()


async def test_jobs_under_way_are_told_until_they_hold_no_joules_any_more(
    nvp, redis: Redis, settings: Settings, account: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    ledger = Ledger(redis)
    await ledger.create(account, 9_000)
    await ledger.reserve(account, "job-1", 5_000, expires_ms=4_000_000_000_000)
    line = JobProgressed(
        job_id="job-1", phase="training", step=3, used_mj=1_200, granted_mj=5_000, method="modelled"
    )
    await report(redis, account, "job-1", new_event(line, source="nvp:worker:tests"))
    monkeypatch.setenv("NVP_REDIS_URL", str(settings.redis_url))
    said = f"job job-1 of {account}: training, 1.2 J of at most 5.0 J"
    assert said in (await asyncio.to_thread(nvp, "status")).out
    assert said in await jobs.that_go_on(settings, account)
    listed = [one["account"] for one in (await asyncio.to_thread(nvp, "status", "--json")).json["jobs"]]
    assert account in listed
    await ledger.release(account, "job-1")
    assert said not in (await asyncio.to_thread(nvp, "status")).out
    assert await jobs.that_go_on(settings, account) == "the stack goes on"
