"""Each server is the one it is called: otherwise the contract would be run on one of them several times."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from neo4j import GraphDatabase
from redis.asyncio import Redis

from tests.stores import fetch
from tests.stores.servers import OLDEST, TESTS, Graph

CALLED = {
    "valkey": "Valkey ",
    "redis-server": "Redis ",
    OLDEST: "Redis 6.2.",
    "arcadedb": "ArcadeDB ",
    **{f"neo4j-{release.split('.')[0]}": f"Neo4j {release}" for release in fetch.RELEASES},
}


@pytest.fixture
def called(request: pytest.FixtureRequest) -> Callable[[str], str]:
    """What the server's words begin with, by the fixture that started it."""

    def one(fixture: str) -> str:
        if not hasattr(request.node, "callspec"):
            pytest.skip("a server from outside may be any")
        return CALLED[request.node.callspec.params[fixture]]

    return one


async def test_a_stream_server_is_the_one_it_is_called(
    redis: Redis, called: Callable[[str], str], record_property: Callable[[str, str], None]
) -> None:
    told = await redis.info("server")
    said = f"Valkey {told['valkey_version']}" if "valkey_version" in told else f"Redis {told['redis_version']}"
    record_property("says", said)
    assert said.startswith(called("valkey"))


def test_a_graph_server_is_the_one_it_is_called(
    arcadedb: Graph, called: Callable[[str], str], record_property: Callable[[str, str], None]
) -> None:
    with GraphDatabase.driver(arcadedb.uri, auth=(arcadedb.user, arcadedb.password)) as driver:
        agent = driver.get_server_info().agent  # Neo4j/5.26.20, Neo4j/5.26.0 compatible (ArcadeDB 26.10.2)
    said = agent.rpartition("(")[2].rstrip(")").replace("/", " ")
    record_property("says", said)
    assert said.startswith(called("arcadedb"))


@pytest.mark.parametrize(("required", "says"), [("", "skipped"), ("1", "error")])
def test_a_server_that_is_not_here_is_skipped_unless_it_is_required(required: str, says: str, tmp_path: Path) -> None:
    one = "tests/stores/test_servers.py::test_a_stream_server_is_the_one_it_is_called"
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-n0", one],
        env=os.environ | {"PATH": str(tmp_path), "NVP_REQUIRE_REAL": required, "NVP_TEST_REDIS_URL": ""},
        cwd=TESTS.parent, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert says in done.stdout
    assert "no redis-server on PATH; `make real-stores` gets it" in done.stdout
