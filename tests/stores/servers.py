"""The servers that tests run on, by name, and the tests that run on all of them.

A test of `CONTRACT` that asks for a store is run on each server of that kind, every other test on the embedded
one, which comes first.
"""

from __future__ import annotations

import shutil
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from nvp_agentkit.embedded import arcadedb, valkey
from nvp_agentkit.embedded.server import Server
from tests.stores import fetch, neo4j

TESTS = Path(__file__).resolve().parents[1]
OLDEST = "redis-6.2"
CONTRACT = ("streams", "energy", "lineage", "embedded/test_accounts_acl.py", "stores")
REMEDY = "`make real-stores` gets it"
# What a server cannot do by its nature, by file and test: left out on it, and the table says so.
CANNOT = {
    OLDEST: {("embedded/test_accounts_acl.py", "test_an_account_cannot_say_what_only_workers_say"): "no selectors"}
}


class Missing(Exception):
    """This machine does not have the server; the text says how it may get it."""


@dataclass(frozen=True)
class Graph:
    """How to reach a graph."""

    uri: str
    user: str
    password: str
    database: str


def in_contract(path: Path) -> bool:
    return any(path.is_relative_to(TESTS / part) for part in CONTRACT)


def redis_program(name: str) -> str:
    """The executable of a stream server."""
    if name == "valkey":
        return valkey.binary()
    if name == OLDEST:
        if fetch.OLDEST.exists():
            return str(fetch.OLDEST)
        raise Missing(f"no Redis 6.2 in {fetch.OLDEST.parent.relative_to(TESTS.parent)}; {REMEDY}")
    if found := shutil.which(name):
        return found
    raise Missing(f"no {name} on PATH; {REMEDY}")


async def _start_redis(folder: Path, name: str) -> Server:
    return await valkey.start(folder, appendfsync="no", program=redis_program(name))


async def _start_neo4j(folder: Path, release: str) -> Server:
    if not fetch.jars(release).exists():
        raise Missing(f"no Neo4j {release} in {fetch.CACHE.relative_to(TESTS.parent)}; {REMEDY}")
    return await neo4j.start(folder, release)


Start = Callable[[Path], Awaitable[Server]]
STREAMS: Mapping[str, Start] = {name: partial(_start_redis, name=name) for name in ("valkey", "redis-server", OLDEST)}
GRAPHS: Mapping[str, Start] = {
    "arcadedb": arcadedb.start,
    **{f"neo4j-{release.split('.')[0]}": partial(_start_neo4j, release=release) for release in fetch.RELEASES},
}


def cannot(server: str, path: Path, test: str) -> str:
    """Why a test of the contract is left out on a server; empty where it is not."""
    return CANNOT.get(server, {}).get((str(path.relative_to(TESTS)), test), "")


def graph_at(name: str, server: Server) -> Graph:
    if name == "arcadedb":
        return Graph(arcadedb.uri(server), arcadedb.USER, server.password, arcadedb.DATABASE)
    return Graph(neo4j.uri(server), neo4j.USER, server.password, neo4j.DATABASE)
