"""A graph under test, and one small history that the tests tell it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import pytest

from nvp_agentkit.lineage import edges, nodes
from nvp_agentkit.lineage.graph import Graph
from nvp_agentkit.messages import LineageRecorded, NodeFact, ObjectRef, Reading
from nvp_agentkit.settings import Settings

Dump = Callable[[], Awaitable[tuple[list[Any], list[Any]]]]


def a_ref(letter: str) -> ObjectRef:
    """Bytes that exist in name only: ``letter`` is a hex digit."""
    return ObjectRef(uri=f"artifact:sha256/{letter * 64}", digest=f"sha256:{letter * 64}", bytes=4096)


def a_reading(mj: int, method: str = "modelled") -> Reading:
    return Reading(mj=mj, lo_mj=mj // 2, hi_mj=mj * 2, method=method, sensor="cpu-time", cpu_ms=mj // 4)


class History:
    """One account's story, as the workers tell it: data, three models, one quorum request."""

    account = "ace-1"
    request_id = "11111111-1111-4111-8111-111111111111"

    def __init__(self) -> None:
        self.payer = nodes.energy_account(self.account, limit_mj=1_000_000, owner="tests")
        self.asker = nodes.agent(self.account, "ace")
        self.code = nodes.code_version("0.1.0", commit="c0ffee", dirty=False)
        self.where = nodes.environment(python="3.11.9", platform="linux-x86_64", threads=2, jax="0.10.2", device="cpu")
        self.data = nodes.dataset_version(a_ref("d"), domain="plasma_physics", units="J", shape=(12, 41, 64, 64))
        self.models = [nodes.model_version(a_ref(letter), domain="plasma_physics", name=f"voter-{k}", params=30_000)
                       for k, letter in enumerate("abc")]
        self.decision = nodes.decision(self.account, self.request_id, outcome="certified", quorum=2, at_ms=9_000,
                                       rule="rule-1", domain="plasma_physics", value_digest=f"sha256:{'e' * 64}")

    def bundles(self) -> list[LineageRecorded]:
        return [self._account(), self._simulated(), *map(self._trained, range(3)), *map(self._voted, range(3)),
                self._decided()]

    def _account(self) -> LineageRecorded:
        facts = edges.Facts()
        facts.add(self.payer)
        facts.add(self.asker)
        return facts.bundle()

    def _run(self, facts: edges.Facts, job: str, kind: str, output: NodeFact, config: dict[str, Any], seed: int,
             reading: Reading, part: str = "") -> NodeFact:
        run = facts.add(nodes.run(self.account, job, attempt=1, part=part, kind=kind, started_ms=1_000, ended_ms=2_000,
                                  outcome="completed"))
        facts.add(output)
        for thing in (nodes.config(config, seed=seed), self.code, self.where):
            facts.link(edges.used(run, facts.add(thing)))
        spent = facts.add(nodes.energy_reading(run, reading, phase=kind, at_ms=2_000))
        worker = facts.add(nodes.agent("training", "worker"))
        facts.link(edges.was_generated_by(output, run), edges.was_associated_with(run, worker),
                   edges.metered(run, spent), edges.charged_to(spent, self.payer))
        return run

    def _simulated(self) -> LineageRecorded:
        facts = edges.Facts()
        self._run(facts, "job-1", "simulate", self.data, {"trajectories": 12}, 7, a_reading(40_000))
        return facts.bundle()

    def _trained(self, k: int) -> LineageRecorded:
        facts, model = edges.Facts(), self.models[k]
        run = self._run(facts, "job-2", "train", model, {"width": 16 + 8 * k}, k,
                        a_reading(100_000 + k, "measured" if k == 2 else "modelled"), part=f"voter-{k}")
        series = facts.add(nodes.metric_series(run, model, name="vrmse", split="test", last=0.20 + 0.01 * k))
        facts.link(edges.used(run, self.data), edges.was_derived_from(model, self.data), edges.evaluates(series, model),
                   edges.was_generated_by(series, run))
        return facts.bundle()

    def _voted(self, k: int) -> LineageRecorded:
        facts = edges.Facts()
        vote = facts.add(nodes.vote(self.account, self.request_id, f"voter-{k}", at_ms=8_000 + k, signature=f"s{k}",
                                    value_digest=f"sha256:{str(k) * 64}"))
        voter = facts.add(nodes.agent(f"voter-{k}", "shadow"))
        spent = facts.add(nodes.energy_reading(vote, a_reading(500 + k), phase="predict", at_ms=8_000))
        facts.link(edges.vote_in(vote, self.decision), edges.was_derived_from(vote, self.models[k]),
                   edges.was_attributed_to(vote, voter), edges.metered(vote, spent),
                   edges.charged_to(spent, self.payer))
        return facts.bundle()

    def _decided(self) -> LineageRecorded:
        facts = edges.Facts()
        facts.add(self.decision)
        tally = facts.add(nodes.agent("tally", "worker"))
        facts.link(edges.was_attributed_to(self.decision, self.asker), edges.was_associated_with(self.decision, tally))
        for k in range(3):
            facts.add(nodes.vote(self.account, self.request_id, f"voter-{k}", dissent=k == 2))
        for model in self.models[:2]:
            facts.link(edges.was_derived_from(self.decision, model))
        return facts.bundle()

    def asserted(
        self, about: NodeFact, predicate: str, value: str, *, valid_ms: int, recorded_ms: int
    ) -> LineageRecorded:
        facts = edges.Facts()
        said = facts.add(nodes.assertion(about, predicate, value, valid_from_ms=valid_ms, recorded_ms=recorded_ms,
                                         reason="a test says so"))
        facts.link(edges.about(said, about))
        return facts.bundle()


@pytest.fixture
def history() -> History:
    return History()


@pytest.fixture
def place(graph: Any) -> Settings:
    """Settings that lead to the emptied graph of the session."""
    return Settings(neo4j_uri=graph.uri, neo4j_user=graph.user, neo4j_password=graph.password,
                    neo4j_database=graph.database)


@pytest.fixture
async def lineage(place: Settings) -> AsyncIterator[Graph]:
    async with Graph.connect(place) as connected:
        yield connected


@pytest.fixture
def dump(lineage: Graph) -> Dump:
    """Everything in the graph, in one order: nodes with their properties, then relationships."""

    async def everything() -> tuple[list[Any], list[Any]]:
        found = await lineage.rows("MATCH (n) RETURN labels(n) AS labels, properties(n) AS properties")
        links = await lineage.rows("MATCH (a)-[r]->(b) RETURN labels(a) AS la, a.id AS a, type(r) AS kind, "
                                   "labels(b) AS lb, b.id AS b, properties(r) AS properties")
        return (sorted(([row["labels"], sorted(row["properties"].items())] for row in found
                        if row["labels"] != ["Migration"]), key=repr),
                sorted((sorted(row.items()) for row in links), key=repr))

    return everything
