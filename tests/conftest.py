"""The stores under test are real: an embedded Valkey and an embedded ArcadeDB, started once, when first asked for.

What the product asks of a store is tested on redis-server and two releases of Neo4j as well (`tests.stores.servers`).
``NVP_TEST_REDIS_URL`` and ``NVP_TEST_NEO4J_URI`` (with ``_USER``, ``_PASSWORD``, ``_DATABASE``) point the same
tests at any other server. Each test works under an account of its own; what it leaves behind is checked.
"""

from __future__ import annotations

import asyncio
import os
import shutil
import subprocess
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any
from uuid import uuid4

import hypothesis
import jax
import pytest
from hypothesis import HealthCheck
from neo4j import GraphDatabase
from redis.asyncio import Redis
from redis.asyncio.connection import AbstractConnection

from nvp_agentkit.embedded import children
from nvp_agentkit.embedded import valkey as embedded_valkey
from nvp_agentkit.embedded.server import Server
from nvp_agentkit.settings import Settings
from nvp_agentkit.streams import names
from tests.stores.servers import GRAPHS, STREAMS, Graph, Missing, cannot, graph_at, in_contract
from tests.stores.servers import redis_program as program_of

# Half the time to compile, slower code: tests compile more than they compute.
QUICKLY_COMPILED = "--xla_backend_optimization_level=0"
COMPILED = Path(__file__).parents[1] / ".cache" / "xla"  # by another process, or an earlier run


def _compile_quickly() -> None:
    """For this process; compute children are as they are anywhere: the flag is gone before one is started."""
    os.environ["XLA_FLAGS"] = QUICKLY_COMPILED
    jax.devices()  # reads it, once
    del os.environ["XLA_FLAGS"]
    jax.config.update("jax_compilation_cache_dir", str(COMPILED))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.1)
    jax.config.update("jax_persistent_cache_min_entry_size_bytes", -1)


if "XLA_FLAGS" not in os.environ:
    _compile_quickly()

hypothesis.settings.register_profile("any-machine", deadline=None, suppress_health_check=[HealthCheck.too_slow])
hypothesis.settings.load_profile("any-machine")  # a busy one is no defect

TOUR = Path(__file__).with_name("tour")


@pytest.hookimpl(tryfirst=True)  # before xdist reads the markers
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Three processes share the tests: a file stays in one of them, so does the tour, and the longest begin first."""
    for item in items:
        group = TOUR if item.path.is_relative_to(TOUR) else item.path
        if item.get_closest_marker("xdist_group") is None:
            item.add_marker(pytest.mark.xdist_group(str(group)))
    slow = {item.path for item in items if item.get_closest_marker("slow")}
    items.sort(key=lambda item: item.path not in slow and not item.path.is_relative_to(TOUR))


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """A contract test runs on each server of the kind it asks for; those of one server stay together."""
    path = metafunc.definition.path
    if not in_contract(path):
        return
    for fixture, variable, servers in (
        ("valkey", "NVP_TEST_REDIS_URL", STREAMS),
        ("redis_program", "", STREAMS),
        ("arcadedb", "NVP_TEST_NEO4J_URI", GRAPHS),
    ):
        if fixture in metafunc.fixturenames and not os.environ.get(variable):
            first, *others = servers
            marks = {name: [pytest.mark.xdist_group(name)] for name in others}
            for name in others:
                if why := cannot(name, path, metafunc.definition.originalname):
                    marks[name].append(pytest.mark.skip(reason=f"{name}: {why}"))
            each = [first, *(pytest.param(name, marks=marks[name]) for name in others)]
            metafunc.parametrize(fixture, each, indirect=True, scope="session")


@pytest.fixture(scope="session")
def started(
    tmp_path_factory: pytest.TempPathFactory, unavailable: Callable[[str], None]
) -> Iterator[Callable[[str], Server]]:
    """``started(name)``: that server, started when first asked for, killed when the session ends."""
    running: dict[str, Server] = {}
    with asyncio.Runner(loop_factory=asyncio.new_event_loop) as loop:

        def one(name: str) -> Server:
            if name not in running:
                try:
                    running[name] = loop.run((STREAMS | GRAPHS)[name](tmp_path_factory.mktemp(name)))
                except Missing as missing:
                    unavailable(str(missing))
            return running[name]

        yield one
        for server in running.values():
            loop.run(children.end(server.process, grace_s=0))


@pytest.fixture(scope="session")
def valkey(request: pytest.FixtureRequest, started: Callable[[str], Server]) -> str:
    """The URL of a stream server that serves the whole session: the embedded one unless the contract asks for more."""
    outside = os.environ.get("NVP_TEST_REDIS_URL")
    return outside or embedded_valkey.url(started(getattr(request, "param", "valkey")))


@pytest.fixture(scope="session")
def redis_program(request: pytest.FixtureRequest, unavailable: Callable[[str], None]) -> str:
    """The stream server's executable, for tests that start and kill one of their own."""
    try:
        return program_of(getattr(request, "param", "valkey"))
    except Missing as missing:
        unavailable(str(missing))


@pytest.fixture(scope="session")
def arcadedb(request: pytest.FixtureRequest, started: Callable[[str], Server]) -> Graph:
    """A graph server that serves the whole session; `graph` is the same one, emptied."""
    if outside := os.environ.get("NVP_TEST_NEO4J_URI"):
        return Graph(
            outside,
            os.environ.get("NVP_TEST_NEO4J_USER", "neo4j"),
            os.environ.get("NVP_TEST_NEO4J_PASSWORD", ""),
            os.environ.get("NVP_TEST_NEO4J_DATABASE", "neo4j"),
        )
    name = getattr(request, "param", "arcadedb")
    return graph_at(name, started(name))


@pytest.fixture
def graph(arcadedb: Graph) -> Graph:
    """The graph without a node in it; constraints and indexes of earlier tests may be there."""
    with GraphDatabase.driver(arcadedb.uri, auth=(arcadedb.user, arcadedb.password)) as driver:
        driver.execute_query("MATCH (n) DETACH DELETE n", database_=arcadedb.database)
    return arcadedb


@pytest.fixture(scope="session")
def compile_cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where compute children of all tests keep what XLA compiled: link ``DATA_DIR/compile-cache`` to it."""
    run = tmp_path_factory.getbasetemp()
    shared = run.parent if "PYTEST_XDIST_WORKER" in os.environ else run
    (shared / "compile-cache").mkdir(exist_ok=True)
    return shared / "compile-cache"


@pytest.fixture(scope="session")
def unavailable() -> Callable[[str], None]:
    """Skips a test for want of something outside, and fails it where ``NVP_REQUIRE_REAL=1`` says that it has to be."""
    return pytest.fail if os.environ.get("NVP_REQUIRE_REAL") == "1" else pytest.skip


@pytest.fixture(scope="session")
def node_packages(unavailable: Callable[[str], None]) -> Callable[[Path], None]:
    """Installs what a folder's ``package-lock.json`` pins into the ``node_modules`` beside it, once."""

    def install(folder: Path) -> None:
        if shutil.which("npm") is None:
            pytest.skip("npm is not installed")
        wanted, installed = folder / "package-lock.json", folder / "node_modules" / ".package-lock.json"
        if installed.exists() and installed.stat().st_mtime >= wanted.stat().st_mtime:
            return
        command = ["npm", "ci", "--ignore-scripts"]
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
        if done.returncode:
            unavailable(f"npm cannot install what {folder.name} pins: {done.stderr.strip()}")

    return install


@pytest.fixture
def kept_keys() -> frozenset[str]:
    """Suffixes of account keys that a test may leave without a TTL; tests of other rules override it."""
    return names.KEPT


@pytest.fixture
async def redis(valkey: str) -> AsyncIterator[Redis]:
    """A client of the stream server; bytes in, bytes out. Its name, in CLIENT LIST, is this test's own."""
    async with Redis.from_url(valkey, socket_timeout=None, client_name=f"test-{uuid4().hex}") as client:
        yield client


@pytest.fixture
async def account(redis: Redis, kept_keys: frozenset[str]) -> AsyncIterator[str]:
    """An account name of this test's own. A key it leaves behind without TTL, and that is not kept, fails the test."""
    name = f"test-{uuid4().hex[:12]}"
    yield name
    keys = [key async for key in redis.scan_iter(match=f"nvp:{{{name}}}:*", count=1000)]
    leaked = [key.decode() for key in keys if await redis.ttl(key) == -1 and not _kept(key.decode(), kept_keys)]
    ledger = [key async for key in redis.scan_iter(match=f"nvp:{{ledger}}:*{name}*", count=1000)]
    if keys or ledger:
        await redis.delete(*keys, *ledger)
    await redis.zrem("nvp:{ledger}:open", *(await _open_reservations(redis, name) or [name]))
    await redis.hdel("nvp:{registry}:accounts", name)
    assert not leaked, f"keys without TTL left behind: {leaked}"


async def _open_reservations(redis: Redis, account: str) -> list[bytes]:
    members = await redis.zrange("nvp:{ledger}:open", 0, -1)
    return [member for member in members if member.startswith(f"{account}/".encode())]


def _kept(key: str, kept: frozenset[str]) -> bool:
    suffix = key.split("}:", 1)[1]
    return suffix.removesuffix(":dead") in kept


@pytest.fixture
def settings(valkey: str, arcadedb: Graph, tmp_path: Path) -> Settings:
    """Settings that lead to the servers under test, with a data folder of the test's own."""
    return Settings(
        data_dir=tmp_path / "nvp",
        redis_url=valkey,
        neo4j_uri=arcadedb.uri,
        neo4j_user=arcadedb.user,
        neo4j_password=arcadedb.password,
        neo4j_database=arcadedb.database,
        artifacts_url=str(tmp_path / "artifacts"),
    )


@pytest.fixture
def round_trips(monkeypatch: pytest.MonkeyPatch) -> Counter[str]:
    """How often something was sent to a stream server."""
    counted, send = Counter[str](), AbstractConnection.send_packed_command

    async def counting(*args: Any, **options: Any) -> None:
        counted["sent"] += 1
        await send(*args, **options)

    monkeypatch.setattr(AbstractConnection, "send_packed_command", counting)
    return counted
