"""The data folder: it may be called anything and be moved, it knows who wrote it, and nothing gathers in it."""

from __future__ import annotations

import os
import shutil
import signal
import time
import zlib
from pathlib import Path

import pytest
from neo4j import AsyncGraphDatabase
from redis.asyncio import Redis

from nvp_agentkit import __version__
from nvp_agentkit.artifacts.folder import PARTIAL, Folder
from nvp_agentkit.embedded import control, generation, leftovers, lock
from nvp_agentkit.embedded.stack import Stack
from nvp_agentkit.embedded.stackfile import StackFile, read_stack
from nvp_agentkit.errors import StackError, StackNotRunning
from nvp_agentkit.settings import Settings


@pytest.fixture
def data_dir(tmp_path: Path) -> Path:
    """Longer than a Unix socket's address may be, with what a shell or a configuration file would trip over."""
    return tmp_path / "one's \"Däten\" $HOME" / ("long" * 40) / "nvp"


async def write(folder: Path, name: str) -> None:
    place = read_stack(folder)
    async with Redis.from_url(place.redis_url) as redis:
        await redis.set(name, "kept")
    async with driver_of(place) as driver:
        await driver.execute_query("CREATE (:Run {id: $id})", id=name, database_=place.neo4j_database)


async def found(folder: Path) -> tuple[set[str], set[str]]:
    """What streams and graph remember of what `write` wrote."""
    place = read_stack(folder)
    async with Redis.from_url(place.redis_url, decode_responses=True) as redis:
        keys = {key async for key in redis.scan_iter("run-*")}
    async with driver_of(place) as driver:
        rows, _, _ = await driver.execute_query("MATCH (r:Run) RETURN r.id AS id", database_=place.neo4j_database)
    return keys, {row["id"] for row in rows}


def driver_of(place: StackFile):
    return AsyncGraphDatabase.driver(place.neo4j_uri, auth=(place.neo4j_user, place.neo4j_password))


def names(folder: Path, text: str) -> list[Path]:
    """Files of the folder, logs aside, in which ``text`` stands."""
    files = (path for path in folder.rglob("*") if path.is_file() and ".log" not in path.name)
    files = (path for path in files if path.parent.name != "log")  # there the graph server tells of its disk
    return [path for path in files if text.encode() in path.read_bytes()]


async def test_a_killed_stacks_folder_may_be_moved_and_no_file_says_where_it_was(
    run_stack, data_dir: Path, tmp_path: Path
) -> None:
    killed = run_stack()
    await write(data_dir, "run-1")
    killed.send_signal(signal.SIGKILL)
    killed.wait()
    moved = tmp_path / "moved"
    shutil.move(data_dir, moved)

    stack = Stack(Settings(data_dir=moved))
    await stack.start()
    assert await found(moved) == ({"run-1"}, {"run-1"})
    await stack.stop()
    assert names(moved, "long" * 40) == []
    assert names(moved, str(moved)) == []


async def test_processes_of_a_folder_are_found_whatever_it_is_called(run_stack, data_dir: Path, half_stack) -> None:
    run_stack(NVP_NEO4J_URI=half_stack.neo4j_uri, NVP_NEO4J_USER=half_stack.neo4j_user,
              NVP_NEO4J_PASSWORD=half_stack.neo4j_password, NVP_NEO4J_DATABASE=half_stack.neo4j_database)
    assert len(lock.left_over(data_dir)) == 5
    await control.down(data_dir)
    assert lock.left_over(data_dir) == []


async def test_two_stacks_run_side_by_side(half_stack: Settings, tmp_path: Path) -> None:
    stacks = [Stack(half_stack), Stack(half_stack.model_copy(update={"data_dir": tmp_path / "other"}))]
    places = [await stack.start() for stack in stacks]
    assert places[0].redis_url != places[1].redis_url
    for number, place in enumerate(places):
        async with Redis.from_url(place.redis_url) as redis:
            await redis.set(f"of-{number}", "mine")
            assert await redis.keys("of-*") == [f"of-{number}".encode()]
    await stacks[0].stop()
    async with Redis.from_url(places[1].redis_url) as redis:
        assert await redis.ping()
    await stacks[1].stop()


async def test_a_killed_stacks_address_leads_nobody_astray_while_the_next_one_starts(half_stack: Settings) -> None:
    folder = half_stack.data_dir
    stale = {"version": "0", "pid": 1, "started_ms": 0, "redis_url": "redis://127.0.0.1:1", "neo4j_uri": "bolt://x",
             "neo4j_user": "u", "neo4j_password": None, "neo4j_database": "d", "artifacts_url": "a"}  # fmt: skip
    folder.mkdir(parents=True)
    (folder / "stack.json").write_text(StackFile(**stale).model_dump_json())
    held = lock.acquire(folder)
    with pytest.raises(StackNotRunning):
        read_stack(folder)
    held.release()
    stack = Stack(half_stack, prepare=lambda: pytest.fail("still there") if (folder / "stack.json").exists() else None)
    await stack.start()
    assert read_stack(folder).pid == os.getpid()
    await stack.stop()


def content(folder: Path) -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file() and path.name != "lock"}


@pytest.mark.parametrize("damaged", [b"", b"[]", b'{"pid": 1}', b"\xff\xfe"])
def test_a_damaged_address_of_a_stack_is_said_with_its_remedy(tmp_path: Path, damaged: bytes) -> None:
    (tmp_path / "stack.json").write_bytes(damaged)
    with pytest.raises(StackError, match="is damaged or was written by another version; `nvp down`"):
        read_stack(tmp_path)


async def test_a_folder_that_a_later_version_wrote_is_refused_untouched(half_stack: Settings) -> None:
    folder = half_stack.data_dir
    (folder / "valkey").mkdir(parents=True)
    (folder / "version").write_text('{"format": 99, "nvp": "7.1.0", "since": 5}')
    (folder / "stack.json").write_text("{}")
    before = content(folder)
    stack = Stack(half_stack, prepare=lambda: pytest.fail("something was made in it"))
    with pytest.raises(StackError, match=rf"nvp 7.1.0 \(format 99\), this is nvp {__version__}.*up to 2.*--data-dir"):
        await stack.start()
    assert content(folder) == before
    assert lock.holder(folder) is None


async def test_a_folder_of_the_first_version_is_brought_up_to_date(half_stack: Settings) -> None:
    folder = half_stack.data_dir
    objects = folder / "artifacts" / "sha256" / "ab"
    objects.mkdir(parents=True)
    (folder / "valkey").mkdir()
    (objects / "cdef").write_bytes(b"whole")
    (objects / ".5f0c").write_bytes(b"hal")
    stack = Stack(half_stack)
    await stack.start()
    await stack.stop()
    assert [path.name for path in objects.iterdir()] == ["cdef"]
    assert generation.check(folder) == generation.FORMAT
    assert __version__ in (folder / "version").read_text()


def test_steps_run_in_order_once_each_and_go_on_where_they_were_interrupted(tmp_path: Path, monkeypatch) -> None:
    ran: list[int] = []

    def step(number: int):
        def run(folder: Path) -> None:
            ran.append(number)
            if ran.count(3) == 1 and number == 3:
                raise KeyboardInterrupt

        return run

    monkeypatch.setattr(generation, "FORMAT", 5)
    monkeypatch.setattr(generation, "STEPS", {number: step(number) for number in range(1, 5)})
    (tmp_path / "valkey").mkdir()
    with pytest.raises(KeyboardInterrupt):
        generation.bring_up_to_date(tmp_path)
    assert generation.check(tmp_path) == 3
    for _ in range(2):
        generation.bring_up_to_date(tmp_path)
    assert ran == [1, 2, 3, 3, 4]
    assert generation.check(tmp_path) == 5


def test_every_format_has_its_step_and_a_new_folder_needs_none(tmp_path: Path) -> None:
    assert sorted(generation.STEPS) == list(range(1, generation.FORMAT))
    assert generation.check(tmp_path) == 0
    generation.bring_up_to_date(tmp_path)
    assert generation.check(tmp_path) == generation.FORMAT


@pytest.mark.parametrize("text", ["", "two", '{"format": "x"}'])
def test_a_version_that_cannot_be_read_is_not_guessed(tmp_path: Path, text: str) -> None:
    (tmp_path / "version").write_text(text)
    with pytest.raises(StackError, match=r"version does not say.*--data-dir"):
        generation.check(tmp_path)


def test_what_killed_processes_left_in_it_is_cleared(tmp_path: Path) -> None:
    cache, partial, scratch = tmp_path / "compile-cache", tmp_path / "artifacts" / PARTIAL, tmp_path / "tmp"
    for folder in (cache, partial, scratch / "nvp-job-1"):
        folder.mkdir(parents=True)
    program = zlib.compress(os.urandom(5000))
    files = {"whole": program, "cut": program[:-7], "empty": b"", "damaged": program[:50] + b"#" + program[51:],
             "of-zstandard": b"\x28\xb5\x2f\xfd and more"}  # fmt: skip
    for name, data in files.items():
        (cache / f"jit_{name}-cache").write_bytes(data)
    (scratch / "nvp-job-1" / "data.safetensors").write_bytes(b"half")
    streams = tmp_path / "valkey" / "appendonlydir"
    streams.mkdir(parents=True)
    for name in ("appendonly.aof.manifest", "temp-appendonly.aof.manifest", "../temp-rewriteaof-7.aof"):
        (streams / name).touch()
    for name, age_s in (("old", 2 * leftovers.ABANDONED_S), ("young", 0)):
        (partial / name).write_bytes(b"half")
        os.utime(partial / name, (0, time.time() - age_s))
    leftovers.clear(tmp_path)
    assert sorted(path.name for path in cache.iterdir()) == ["jit_of-zstandard-cache", "jit_whole-cache"]
    assert [path.name for path in partial.iterdir()] == ["young"]
    assert list(scratch.iterdir()) == []
    assert [path.name for path in (tmp_path / "valkey").rglob("*.*")] == ["appendonly.aof.manifest"]


def test_an_object_lies_among_the_partial_ones_until_it_is_whole(tmp_path: Path, monkeypatch) -> None:
    seen: list[set[str]] = []
    fsync = os.fsync

    def look(descriptor: int) -> None:
        seen.append({path.parent.name for path in tmp_path.rglob("*") if path.is_file()})
        fsync(descriptor)

    monkeypatch.setattr(os, "fsync", look)
    Folder(tmp_path).write("sha256/ab/cdef", b"whole")
    assert seen[0] == {PARTIAL}
    assert seen[-1] == {"ab"}
