"""The graph may be away, hang, or refuse: one retryable error, in time, and all is well when it comes back."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import nullcontext, suppress

import pytest
from neo4j import GraphDatabase

from nvp_agentkit.errors import StackNotRunning, StoreUnavailable
from nvp_agentkit.lineage.graph import Graph, driver_for
from nvp_agentkit.settings import Settings
from tests.relay import Relay


@pytest.fixture
async def wire(place: Settings) -> AsyncIterator[Relay]:
    relay = Relay(place.neo4j_uri or "")
    await relay.mend()
    yield relay
    await relay.cut()


async def test_a_recorder_that_outlives_its_graph_goes_on_where_it_was(wire, place, history, dump):
    here = place.model_copy(update={"neo4j_uri": f"bolt://127.0.0.1:{wire.port}"})
    bundles = history.bundles()
    async with Graph.connect(here) as graph:
        await graph.write(bundles[:4])
        before = await dump()
        await wire.cut()
        with pytest.raises(StoreUnavailable, match="the graph is away") as caught:
            await graph.write(bundles[4:])
        assert caught.value.retryable
        assert await dump() == before
        await wire.mend()
        await graph.write(bundles[4:])
        assert len((await dump())[0]) > len(before[0])


async def test_a_recorder_may_start_before_its_graph(wire, place, history):
    await wire.cut()
    here = place.model_copy(update={"neo4j_uri": f"bolt://127.0.0.1:{wire.port}"})
    async with Graph.connect(here) as graph:
        with pytest.raises(StoreUnavailable):
            await graph.write_each(history.bundles())
        await wire.mend()
        assert await graph.write_each(history.bundles()) == [None] * len(history.bundles())
        assert await graph.rows("MATCH (m:Migration) RETURN count(m) AS applied") != [{"applied": 0}]


async def test_a_graph_that_accepts_and_never_answers_is_given_up_in_time():
    gone = asyncio.Event()

    async def silence(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(ConnectionError):
            await reader.read()
        writer.close()
        gone.set()

    server = await asyncio.start_server(silence, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    graph = Graph(driver_for(Settings(neo4j_uri=f"bolt://127.0.0.1:{port}")), "neo4j", timeout_s=0.5)
    began = time.monotonic()
    with pytest.raises(StoreUnavailable, match=r"did not answer within 0\.5 s"):
        await graph.ready()
    assert time.monotonic() - began < 5
    await graph.close()
    await gone.wait()  # the caller hung up, too
    server.close()


async def test_wrong_credentials_name_the_settings(arcadedb):
    if not arcadedb.password:
        pytest.skip("the graph under test takes anybody")
    wrong = Settings(neo4j_uri=arcadedb.uri, neo4j_user=arcadedb.user, neo4j_password="not-this-one")
    async with Graph.connect(wrong) as graph:
        with pytest.raises(StoreUnavailable, match="NVP_NEO4J_PASSWORD"):
            await graph.ready()


async def test_a_user_who_may_do_nothing_yet_is_the_deployments_trouble_and_loses_no_fact(place, history):
    newcomer = place.model_copy(update={"neo4j_user": "newcomer", "neo4j_password": "change-me-first"})
    owner = GraphDatabase.driver(place.neo4j_uri, auth=(place.neo4j_user, place.neo4j_password))
    with owner:
        lenient = "Arcade" in owner.get_server_info().agent  # lets in whoever has a password
        made = "CREATE USER newcomer IF NOT EXISTS SET PASSWORD 'change-me-first' CHANGE REQUIRED"
        owner.execute_query(made, database_="system")
    async with Graph.connect(newcomer) as graph:
        refused = pytest.raises(StoreUnavailable, match=r"the graph does not let its user do that .*CredentialsExpired")
        with nullcontext() if lenient else refused:
            assert set(await graph.write_each(history.bundles())) == {None}


async def test_a_database_that_is_not_there_yet_is_worth_another_try(place):
    async with Graph.connect(place.model_copy(update={"neo4j_database": "nowhere"})) as graph:
        with pytest.raises(StoreUnavailable, match="does not know the database"):
            await graph.ready()


def test_no_graph_named_says_how_to_get_one():
    with pytest.raises(StackNotRunning, match="nvp up"):
        Graph.connect(Settings())


async def test_a_wrong_query_is_a_bug_and_stays_one(lineage):
    with pytest.raises(Exception, match="SyntaxError") as caught:
        await lineage.rows("RETURN 1 +")
    assert not isinstance(caught.value, StoreUnavailable)
