"""The recorder: facts reach the graph whenever it is there, and those that never can are kept and said."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace

import pytest

from nvp_agentkit.errors import InvalidField
from nvp_agentkit.lineage import edges, nodes, queries
from nvp_agentkit.lineage.graph import Graph
from nvp_agentkit.messages import LineageRecorded, new_event
from nvp_agentkit.settings import Settings
from nvp_agentkit.streams import Completion, dead_letters, names
from nvp_agentkit.streams.health import workers
from nvp_agentkit.streams.watermark import passed
from nvp_agentkit.workers import recorder, refusals
from nvp_agentkit.workers.system import System

pytestmark = pytest.mark.usefixtures("graph")  # emptied before each test


@asynccontextmanager
async def recording(system: System, settings: Settings) -> AsyncIterator[None]:
    """The recorder at work."""
    stop = asyncio.Event()
    serving = asyncio.create_task(recorder.serve(replace(system, name="recorder", settings=settings), stop))
    try:
        yield
    finally:
        stop.set()
        await serving


async def recorded(bench) -> None:
    assert await passed(bench.system.redis, bench.account, "lineage", timeout_s=20)


async def heartbeat(system: System, *, state: str, says: str) -> None:
    """Wait until the recorder says so of itself."""
    async with asyncio.timeout(20):
        while not any(one.state == state and says in one.detail for one in await workers(system.redis)):  # noqa: ASYNC110
            await asyncio.sleep(0.02)


async def test_the_graph_away_facts_wait_beyond_every_deadline_and_none_is_lost(
    bench, settings, request_of, free_port: int, relay
) -> None:
    """The request was late before it was refused, and the graph is away: the refusal is recorded all the same."""
    asked = [bench.delivery(request_of(), within_s=-60.0) for _ in range(3)]
    for delivery in asked:
        await bench.complete(refusals.prediction(bench.system, delivery, InvalidField("NaN")))
    lineage = names.key(bench.account, "lineage")
    elsewhere = settings.model_copy(update={"neo4j_uri": f"bolt://127.0.0.1:{free_port}"})
    async with recording(bench.system, elsewhere):
        await heartbeat(bench.system, state="starting", says="3 facts wait: the graph is away")
        assert await bench.system.redis.xlen(lineage) == 3
        async with Graph.connect(settings) as graph, relay(free_port, settings.neo4j_uri):
            await heartbeat(bench.system, state="ready", says="")
            await recorded(bench)
            for delivery in asked:
                found = await queries.decision(graph, delivery.request_id)
                assert (found.decision["outcome"], found.asked_by) == ("refused", f"ace:{bench.account}")
            assert await dead_letters(bench.system.redis, bench.account, "lineage") == []


async def test_a_fact_in_whose_hands_many_recorders_died_is_recorded_all_the_same(bench, settings, request_of) -> None:
    asked = bench.delivery(request_of())
    await bench.complete(refusals.prediction(bench.system, asked, InvalidField("NaN")))
    redis, lineage = bench.system.redis, names.key(bench.account, "lineage")
    ((_, ((entry_id, _),)),) = await redis.xreadgroup("recorder", "crashed", {lineage: ">"})
    await redis.xclaim(lineage, "recorder", "crashed", 0, [entry_id], idle=60_000, retrycount=2000)
    async with recording(bench.system, settings), Graph.connect(settings) as graph:
        await recorded(bench)
        assert (await queries.decision(graph, asked.request_id)).decision["outcome"] == "refused"
    assert await dead_letters(redis, bench.account, "lineage") == []


async def test_a_fact_that_contradicts_another_is_a_dead_letter_and_its_neighbours_are_recorded(
    bench, settings
) -> None:
    def said(kind: str, job: str) -> LineageRecorded:
        facts = edges.Facts()
        facts.add(nodes.run(bench.account, job, attempt=1, kind=kind, started_ms=1, ended_ms=2, outcome="completed"))
        return facts.bundle()

    told = [said("train", "one"), said("simulate", "one"), said("train", "two")]
    await bench.complete(Completion(facts=tuple(new_event(fact, source="nvp:worker:tests") for fact in told)))
    async with recording(bench.system, settings), Graph.connect(settings) as graph:
        await recorded(bench)
        rows = await graph.rows("MATCH (r:Run) RETURN r.job_id AS job, r.kind AS kind")
    assert {row["job"]: row["kind"] for row in rows} == {"one": "train", "two": "train"}
    (letter,) = await dead_letters(bench.system.redis, bench.account, "lineage")
    assert "conflicting_fact" in letter.reason
    assert "facts never change" in letter.reason


async def test_what_a_dead_worker_reserved_is_charged_once_its_time_is_over(bench, settings) -> None:
    await bench.system.ledger.reserve(bench.account, "orphan", 5000, parts=1, expires_ms=1)
    async with recording(bench.system, settings), asyncio.timeout(20):
        while (await bench.balance()).reserved_mj:  # noqa: ASYNC110  it happens in Redis
            await asyncio.sleep(0.02)
    assert (await bench.balance()).spent_mj == 5000
