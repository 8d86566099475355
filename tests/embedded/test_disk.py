"""A disk that is full or read-only: said in words, nothing acknowledged is lost, and it goes on once there is room.

The disk is a small tmpfs, which takes root to mount.
"""

from __future__ import annotations

import asyncio
import errno
import os
import signal
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest
from redis.asyncio import Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import RedisError

from nvp_agentkit.artifacts import Artifacts
from nvp_agentkit.embedded import lock, room
from nvp_agentkit.embedded.stack import Stack, StackEvent
from nvp_agentkit.embedded.supervisor import Supervisor
from nvp_agentkit.embedded.worker import KeptWorker, WorkerSpec
from nvp_agentkit.errors import StackError, StoreUnavailable
from nvp_agentkit.lineage.graph import Graph
from nvp_agentkit.settings import Settings
from nvp_agentkit.streams.connect import connect

DISK_MB = 32


class Disk:
    """A small disk of a test's own."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._filler = path / "filler"

    def fill(self) -> None:
        with self._filler.open("ab", buffering=0) as file:
            for size in (1 << 16, 1 << 10, 1):
                with suppress(OSError):
                    while True:
                        file.write(b"0" * size)

    def make_room(self) -> None:
        self._filler.unlink()

    def make_read_only(self) -> None:
        subprocess.run(["mount", "-o", "remount,ro", self.path], check=True)


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Disk]:
    path = tmp_path / "disk"
    path.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size={DISK_MB}m", "tmpfs", path], capture_output=True, text=True, check=False
    )
    if mounted.returncode:
        pytest.skip(f"no disk to fill: {mounted.stderr.strip()}")
    yield Disk(path)
    subprocess.run(["umount", "--lazy", path], check=True)


@pytest.fixture
def on_disk(half_stack: Settings, disk: Disk) -> Settings:
    return half_stack.model_copy(update={"data_dir": disk.path / "nvp"})


def up(folder: Path) -> str:
    """What ``nvp up`` says; it is refused."""
    command = [sys.executable, "-m", "nvp_agentkit.cli", "up", "--data-dir", str(folder)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 1, done
    assert "Traceback" not in done.stderr
    return " ".join(done.stderr.split())


async def test_a_disk_without_room_is_refused_before_anything_starts(on_disk: Settings, disk: Disk) -> None:
    stack = Stack(on_disk)
    await stack.start()
    await stack.stop()
    empty = disk.path / "empty"
    empty.mkdir()
    (empty / "lock").touch()
    disk.fill()
    with pytest.raises(StackError, match=r"disk/empty: No space left on device.*--data-dir"):
        lock.acquire(empty)
    with pytest.raises(StackError, match=r"disk/nvp has 0\.0 MB left, a store needs 16 MB"):
        await Stack(on_disk, on_event=lambda event: pytest.fail("something was started")).start()
    assert "has 0.0 MB left" in up(on_disk.data_dir)
    assert "No space left on device" in up(disk.path / "new")
    disk.make_room()
    await stack.start()
    await stack.stop()


async def test_a_folder_that_cannot_be_written_is_named(on_disk: Settings, disk: Disk) -> None:
    stack = Stack(on_disk)
    await stack.start()
    await stack.stop()
    disk.make_read_only()
    with pytest.raises(StackError, match=r"disk/nvp: Read-only file system.*--data-dir"):
        await Stack(on_disk).start()
    assert "Read-only file system" in up(on_disk.data_dir)


class Writer:
    """Writes until told to stop, and knows what was acknowledged."""

    def __init__(self, write: Callable[[], Awaitable[object]], *refusals: type[Exception]) -> None:
        self._write = write
        self._refusals = refusals
        self.acknowledged: list[object] = []
        self.refused = 0
        self.told_to_stop = False

    async def write(self) -> None:
        while not self.told_to_stop:
            try:
                self.acknowledged.append(await self._write())
            except self._refusals:
                self.refused += 1
                await asyncio.sleep(0.02)


async def until(condition, *, within_s: float = 20.0) -> None:
    deadline = time.monotonic() + within_s
    while not condition():
        assert time.monotonic() < deadline
        await asyncio.sleep(0.05)


async def test_a_disk_that_fills_up_loses_nothing_and_the_stack_goes_on_when_there_is_room(
    on_disk: Settings, disk: Disk
) -> None:
    events: list[StackEvent] = []

    def tell(event: StackEvent) -> None:
        events.append(event)
        raise OSError(errno.ENOSPC, "no room for this line either")

    async with (
        Supervisor(on_disk, [], on_event=tell) as stack,
        Redis.from_url(str(stack.settings.redis_url), retry=Retry(NoBackoff(), 0)) as redis,
    ):
        writer = Writer(lambda: redis.xadd("written", {"event": os.urandom(40)}), RedisError, OSError)
        writing = asyncio.create_task(writer.write())
        await until(lambda: len(writer.acknowledged) > 50)
        disk.fill()
        await until(lambda: any("0.0 MB left" in event.detail for event in events))
        with pytest.raises(StoreUnavailable, match=r"stream server.*the disk of .*disk/nvp is full \(0\.0 MB left\)"):
            await connect(stack.settings)
        with pytest.raises(StoreUnavailable, match=r"disk/nvp/artifacts: No space left on device; make room"):
            await Artifacts.from_settings(stack.settings).put(os.urandom(100_000))
        before, refused = len(writer.acknowledged), writer.refused
        assert refused > 0
        disk.make_room()
        await until(lambda: len(writer.acknowledged) > before)
        writer.told_to_stop = True
        await writing
        assert set(writer.acknowledged) <= {entry_id for entry_id, _ in await redis.xrange("written")}
        assert await Artifacts.from_settings(stack.settings).put(os.urandom(100_000))
    assert lock.left_over(on_disk.data_dir) == []


@pytest.mark.slow
async def test_a_graph_whose_disk_was_full_keeps_what_it_acknowledges_also_when_it_is_killed_then(
    settings: Settings, disk: Disk
) -> None:
    """Without an end in order on the full disk its log keeps half a record, beyond which no recovery reads."""
    on_disk = Settings(data_dir=disk.path / "nvp", redis_url=settings.redis_url)
    events: list[StackEvent] = []

    def times(state: str) -> int:
        return [event.state for event in events].count(state)

    async with Supervisor(on_disk, [], on_event=events.append) as stack, Graph.connect(stack.settings) as graph:

        async def note() -> str:
            name = os.urandom(2000).hex()
            await graph.change(lambda work: work.rows("MERGE (n:Note {id: $id}) RETURN n.id", id=name))
            return name

        writer = Writer(note, StoreUnavailable)
        writing = asyncio.create_task(writer.write())
        await until(lambda: len(writer.acknowledged) > 5)
        disk.fill()
        await until(lambda: "store needs 16 MB" in events[-1].detail)
        await until(lambda: writer.refused > 0)
        disk.make_room()
        before = len(writer.acknowledged)
        await until(lambda: len(writer.acknowledged) > before, within_s=60)
        (pid,) = lock.left_over(on_disk.data_dir)
        os.kill(pid, signal.SIGKILL)
        writer.told_to_stop = True
        await until(lambda: times("ready") == 3, within_s=60)
        await writing
        assert set(writer.acknowledged) <= {row["id"] for row in await graph.rows("MATCH (n:Note) RETURN n.id AS id")}


async def test_a_graph_that_met_a_full_disk_is_ended_in_order_though_there_is_room_again(settings: Settings) -> None:
    events: list[StackEvent] = []
    alone = Settings(data_dir=settings.data_dir, redis_url=settings.redis_url)
    async with Supervisor(alone, [], on_event=events.append):
        with (settings.data_dir / "arcadedb" / "arcadedb.log").open("a") as log:
            log.write("java.io.IOException: No space left on device\n")
        await until(lambda: "ended in order" in events[-1].detail)


async def test_a_worker_whose_log_cannot_be_opened_is_tried_again(settings: Settings) -> None:
    events: list[StackEvent] = []
    async with Supervisor(settings, [], on_event=events.append) as stack:
        kept = KeptWorker(WorkerSpec("w", ("sleep", "600"), "no-heartbeat"), stack._stack.folder, events.append)
        kept.log.mkdir(parents=True)
        keeping = asyncio.create_task(kept.keep(stack._redis, {"PATH": os.environ["PATH"]}))
        await until(lambda: [event for event in events if "cannot be started" in event.detail])
        kept.log.rmdir()
        await until(lambda: kept.process is not None)
        keeping.cancel()
        await asyncio.gather(keeping, return_exceptions=True)
        await kept.end(grace_s=1)


def test_a_hint_is_given_where_a_full_disk_may_be_the_reason_alone(tmp_path: Path, monkeypatch) -> None:
    assert room.hint(tmp_path) == room.hint(tmp_path / "nowhere") == ""
    monkeypatch.setattr(room, "LEAST_MB", 10**9)
    assert "make room there" in room.hint(tmp_path)
