"""`nvp doctor` on stream server, graph, artifacts and workers: real servers, broken in each way that it looks for."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
from redis.asyncio import Redis

from nvp_agentkit import __version__
from nvp_agentkit.cli import deployment
from nvp_agentkit.cli.doctor import artifacts, examine, graph, streams, workers
from nvp_agentkit.cli.doctor.finding import Finding
from nvp_agentkit.embedded import lock
from nvp_agentkit.embedded import valkey as embedded_valkey
from nvp_agentkit.embedded.place import free_port, write_private
from nvp_agentkit.embedded.stackfile import StackFile
from nvp_agentkit.settings import Settings
from nvp_agentkit.streams import names
from nvp_agentkit.streams.health import announce


@pytest.fixture(scope="module")
def own_valkey(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A stream server whose configuration these tests may spoil; with a port where nobody else looks."""
    with asyncio.Runner(loop_factory=asyncio.new_event_loop) as loop:
        server = loop.run(embedded_valkey.start(tmp_path_factory.mktemp("valkey")))
        yield embedded_valkey.url(server)
        loop.run(server.stop())


@pytest.fixture
async def server(own_valkey: str) -> AsyncIterator[Redis]:
    """That server, empty, configured as ours is."""
    async with Redis.from_url(own_valkey, socket_timeout=None) as client:
        await client.flushall()
        yield client
        await client.execute_command("REPLICAOF", "NO", "ONE")
        for name, value in {"maxmemory": "0", "maxmemory-policy": "noeviction", "appendonly": "yes"}.items():
            await client.config_set(name, value)


def alone(found: list[Finding]) -> Finding:
    """The one finding that is not well."""
    (one,) = [one for one in found if one.state != "ok"]
    return one


async def test_our_own_server_is_well(server: Redis) -> None:
    found = await streams.findings(server)
    told = [one.name for one in found]
    assert told == ["streams", "streams version", "streams memory", "streams on disk", "streams clock"]
    assert {one.state for one in found} == {"ok"}
    assert await server.keys("*") == []


@pytest.mark.parametrize(("maxmemory", "state"), [("100mb", "broken"), ("0", "warning")])
async def test_a_server_that_drops_keys_is_broken(server: Redis, maxmemory: str, state: str) -> None:
    await server.config_set("maxmemory", maxmemory)
    await server.config_set("maxmemory-policy", "allkeys-lru")
    found = alone(await streams.findings(server))
    assert (found.name, found.state) == ("streams memory", state)
    assert "maxmemory-policy noeviction" in found.remedy


async def test_a_server_that_keeps_nothing_is_a_warning(server: Redis) -> None:
    await server.config_set("appendonly", "no")
    found = alone(await streams.findings(server))
    assert (found.name, found.state) == ("streams on disk", "warning")
    assert "appendonly yes" in found.remedy


async def test_a_full_server_is_broken(server: Redis) -> None:
    await server.config_set("maxmemory", "1")
    found = alone(await streams.findings(server))
    assert (found.name, found.state) == ("streams", "broken")
    assert "`maxmemory`" in found.remedy


async def test_a_replica_is_broken(server: Redis) -> None:
    await server.execute_command("REPLICAOF", "127.0.0.1", str(free_port()))
    found = alone(await streams.findings(server))
    assert (found.name, found.state) == ("streams", "broken")
    assert "primary" in found.remedy


async def test_a_user_that_may_too_little_is_told_what_is_lacking(server: Redis, own_valkey: str) -> None:
    await server.execute_command(
        "ACL", "SETUSER", "weak", "reset", "on", "nopass", "~nvp:*", "+@all", "-xreadgroup", "-eval", "-info"
    )
    async with Redis.from_url(own_valkey, username="weak", password="any") as weak:
        found = alone(await streams.findings(weak))
        assert found.state == "broken"
        assert "+eval +info +xreadgroup" in found.remedy
        await server.execute_command("ACL", "SETUSER", "weak", "+@all", "-acl")
        found = alone(await streams.findings(weak))
        assert found.state == "warning"
        assert "nvp account create" in found.what


def test_servers_that_are_too_old_are_broken() -> None:
    assert streams.version("6.0.16").state == graph.version("4.4.12").state == "broken"
    assert streams.version("6.2.0").state == streams.version("10.0.0").state == graph.version("5.26.0").state == "ok"
    assert "Valkey 9.1.2" in streams.version("7.2.4", "9.1.2").what


@pytest.mark.parametrize(("ahead_s", "state"), [(1.9, "ok"), (-3.0, "warning"), (31.0, "broken"), (-40.0, "broken")])
def test_a_clock_that_is_wrong(ahead_s: float, state: str) -> None:
    found = streams.clock(ahead_s)
    assert found.state == state
    if state != "ok":
        assert ("ahead of" if ahead_s > 0 else "behind") in found.what
        assert "NTP" in found.remedy


async def asked(**place: str) -> list[Finding]:
    return await examine.servers(Settings(data_dir=Path("/nowhere"), **place))


async def test_a_wrong_password_is_told_apart_from_a_server_that_is_away(own_valkey: str) -> None:
    (refused,) = await asked(redis_url=f"redis://:wrong@{own_valkey.rpartition('@')[2]}")
    assert refused.state == "broken"
    assert "password" in refused.what.lower()
    assert "user and password in NVP_REDIS_URL" in refused.remedy
    (without,) = await asked(redis_url=f"redis://{own_valkey.rpartition('@')[2]}")
    assert without.remedy == refused.remedy
    (away,) = await asked(redis_url=f"redis://127.0.0.1:{free_port()}")
    assert away.state == "broken"
    assert "start that server" in away.remedy
    (nonsense,) = await asked(redis_url="http://127.0.0.1")
    assert "redis://user:password@host" in nonsense.remedy


async def test_the_graph_is_asked_and_what_is_wrong_with_it_named(arcadedb) -> None:
    login = {"neo4j_user": arcadedb.user, "neo4j_database": arcadedb.database}
    (well,) = await asked(neo4j_uri=arcadedb.uri, neo4j_password=arcadedb.password, **login)
    assert well.state == "ok"
    (refused,) = await asked(neo4j_uri=arcadedb.uri, neo4j_password="wrong", **login)
    assert refused.state == "broken"
    assert "NVP_NEO4J_PASSWORD" in refused.remedy
    (away,) = await asked(neo4j_uri=f"bolt://127.0.0.1:{free_port()}", neo4j_password="any")
    assert away.state == "broken"
    assert "start that server" in away.remedy
    assert "\n" not in away.what
    (nonsense,) = await asked(neo4j_uri="http://127.0.0.1")
    assert "bolt://host:7687" in nonsense.remedy


async def test_a_running_stack_whose_stores_are_away_is_told_where_to_look(tmp_path: Path) -> None:
    nowhere = f"127.0.0.1:{free_port()}"
    held = lock.acquire(tmp_path)
    write_private(
        tmp_path / "stack.json",
        StackFile(
            version=__version__, pid=os.getpid(), started_ms=1, redis_url=f"redis://{nowhere}", neo4j_uri=f"bolt://{nowhere}",
            neo4j_user="root", neo4j_password="any", neo4j_database="nvp", artifacts_url=str(tmp_path),
        ).model_dump_json(),
    )  # fmt: skip
    try:
        found = await examine.servers(Settings(data_dir=tmp_path))
    finally:
        held.release()
    assert [(one.name, one.state) for one in found] == [("streams", "broken"), ("graph", "broken")]
    assert "nvp logs valkey" in found[0].remedy
    assert "nvp logs arcadedb" in found[1].remedy


async def test_artifacts_elsewhere_are_written_and_read(tmp_path: Path) -> None:
    (well,) = await artifacts.findings(Settings(artifacts_url=str(tmp_path / "artifacts")))
    assert well.state == "ok"
    (tmp_path / "file").touch()
    for url in ("ftp://elsewhere", str(tmp_path / "file" / "artifacts")):
        (found,) = await artifacts.findings(Settings(artifacts_url=url))
        assert found.state == "broken"
        assert found.remedy


@pytest.fixture
async def stack(server: Redis) -> Redis:
    """All workers of a stack have just said that they are ready."""
    for name in deployment.WORKERS:
        await announce(server, name, "here", name.partition("-")[0], "ready", "no model yet")
    return server


async def test_workers_that_are_well(stack: Redis) -> None:
    found = await workers.findings(stack)
    assert [(one.name, one.state) for one in found] == [(name, "ok") for name in sorted(deployment.WORKERS)]


async def test_a_worker_that_is_away_is_broken(stack: Redis) -> None:
    await stack.delete(names.worker("tally", "here"))
    found = alone(await workers.findings(stack))
    assert (found.name, found.state) == ("tally", "broken")
    assert "nvp logs tally" in found.remedy


async def test_a_worker_that_is_not_ready_or_silent_is_a_warning(stack: Redis) -> None:
    await announce(stack, "tally", "here", "tally", "draining", "one in hand")
    found = alone(await workers.findings(stack))
    assert (found.state, found.what) == ("warning", "draining one in hand")
    await announce(stack, "tally", "here", "tally", "ready")
    await stack.pexpire(names.worker("tally", "here"), 2_900)
    found = alone(await workers.findings(stack))
    assert (found.state, found.what[:14]) == ("warning", "silent for 7 s")
    assert "nvp logs tally" in found.remedy


@pytest.mark.parametrize(("ahead_s", "state"), [(45, "broken"), (-45, "broken"), (5, "warning")])
async def test_a_heartbeat_from_the_future_or_the_past_is_a_clock_that_is_wrong(
    stack: Redis, ahead_s: int, state: str
) -> None:
    await stack.hset(names.worker("shadow-2", "here"), "at_ms", str(round(1000 * (time.time() + ahead_s))))
    found = alone(await workers.findings(stack))
    assert (found.name, found.state) == ("shadow-2", state)
    assert ("ahead of" if ahead_s > 0 else "behind") in found.what
    assert "NTP" in found.remedy


async def test_an_account_is_told_only_that_it_is_let_in(server: Redis, own_valkey: str) -> None:
    from nvp_agentkit.embedded.accounts_acl import create_user

    login = await create_user(server, "ace-1")
    address = f"redis://{own_valkey.rpartition('@')[2]}"
    (found,) = await asked(redis_url=address, account="ace-1", account_password=login.password)
    assert found.state == "ok"
    assert "ace-1" in found.what


def test_the_whole_examination_ends_with_1_if_anything_is_broken(
    nvp, own_valkey: str, arcadedb, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = {"REDIS_URL": own_valkey, "NEO4J_URI": arcadedb.uri, "NEO4J_USER": arcadedb.user,
             "NEO4J_PASSWORD": arcadedb.password, "NEO4J_DATABASE": arcadedb.database}  # fmt: skip
    for name, value in place.items():
        monkeypatch.setenv(f"NVP_{name}", value)
    sick = nvp("doctor", "--json", "--data-dir", tmp_path)
    assert (sick.status, sick.json["healthy"]) == (1, False)
    broken = {one["name"]: one for one in sick.json["findings"] if one["state"] == "broken"}
    assert set(broken) == set(deployment.WORKERS)
    assert all(one["remedy"] for one in broken.values())
    for name in ("REDIS_URL", "NEO4J_URI"):
        monkeypatch.delenv(f"NVP_{name}")
    well = nvp("doctor", "--data-dir", tmp_path)
    assert (well.status, well.out.splitlines()[-1]) == (0, "nothing is wrong")
    assert all(line.startswith("✓ ") for line in well.out.splitlines()[:-1])
