"""The questions the graph answers, each by name. The same answers on Neo4j and on the embedded ArcadeDB.

Every function reads in one transaction and raises `StoreUnavailable` when the graph is away.
"""

from __future__ import annotations

import json
from collections.abc import Iterable

from nvp_agentkit.errors import InvalidInput, UnknownAccount, UnknownDomain, UnknownModel, UnknownName
from nvp_agentkit.lineage.answers import Ballot, Best, Decided, Joules, Recipe, Statement
from nvp_agentkit.lineage.graph import Graph
from nvp_agentkit.lineage.nodes import label_of
from nvp_agentkit.lineage.transaction import Row, Transaction
from nvp_agentkit.lineage.walk import ORIGIN, Lineage, Thing, walk


async def called(graph: Graph, beginning: str) -> str:
    """The id that ``beginning`` stands for: its own, or the only one that begins so (`nvp` prints twelve digits).

    Raises:
        UnknownName: none does (`UnknownModel` for a model).
        InvalidInput: several do.
    """
    label, (kind, _, digits) = label_of(beginning), beginning.rpartition(":")
    rows = await graph.rows(
        f"MATCH (x:{label}) WHERE x.id STARTS WITH $plain OR x.id STARTS WITH $digest "
        "RETURN x.id AS id ORDER BY id LIMIT 3",
        plain=beginning, digest=f"{kind}:sha256:{digits}")
    found = {row["id"] for row in rows}
    if beginning in found:
        return beginning
    if not found:
        unknown = UnknownModel if label == "ModelVersion" else UnknownName
        raise unknown(f"the graph knows no {label} whose id begins with {beginning}; "
                      "of one made just now the recorder may not know yet")
    if len(found) > 1:
        raise InvalidInput(f"several ids begin with {beginning}, as {' and '.join(sorted(found)[:2])}; give more of it")
    return str(found.pop())


async def ancestry(graph: Graph, id: str) -> Lineage:
    """Everything ``id`` was made from, to the first data: runs, configurations, code, workers, joules."""
    kinds = f"{ORIGIN}|WAS_ASSOCIATED_WITH|METERED"
    return await graph.read(lambda transaction: walk(transaction, id, to_earlier=kinds))


async def joules_of(graph: Graph, id: str) -> tuple[Joules, ...]:
    """Joules of ``id`` including everything it was made from, split by phase and method."""
    found = await ancestry(graph, id)
    return _summed(thing.properties for thing in found.labelled("EnergyReading"))


async def descendants(graph: Graph, id: str) -> Lineage:
    """Everything made with ``id``, down to predictions, votes and decisions: what it taints, if it is tainted."""
    # A vote points to its decision, and what is wrong with the vote is wrong with the decision.
    return await graph.read(lambda transaction: walk(transaction, id, to_later=ORIGIN, to_earlier="VOTE_IN"))


async def reproduce(graph: Graph, id: str) -> Recipe:
    """What it takes to make the model or dataset ``id`` again, byte for byte.

    Where several runs made the same bytes, the earliest is told.
    """
    found = await graph.read(lambda transaction: walk(transaction, id, to_earlier=ORIGIN))
    runs = sorted(found.earlier(id, "WAS_GENERATED_BY", "Run"), key=lambda run: (run["ended_ms"] or 0, run.id))
    run = runs[0] if runs else None
    used = {label: found.earlier(run.id, "USED", label) if run else ()
            for label in ("Config", "CodeVersion", "Environment", "DatasetVersion", "ModelVersion")}
    inputs = used["DatasetVersion"] + used["ModelVersion"]
    missing = [name for name, known in (("run", runs), ("config", used["Config"]), ("code", used["CodeVersion"]),
                                        ("environment", used["Environment"])) if not known]
    missing += [f"bytes of {thing.id}" for thing in inputs if thing["uri"] is None]
    return Recipe(
        thing=found.start,
        run=run,
        configs=tuple(json.loads(config["json"]) for config in used["Config"] if config["json"]),
        seeds=tuple(config["seed"] for config in used["Config"] if config["seed"] is not None),
        code=next(iter(used["CodeVersion"]), None),
        environment=next(iter(used["Environment"]), None),
        inputs=inputs,
        missing=tuple(missing),
    )


async def status(
    graph: Graph, predicate: str, *, known_at_ms: int | None = None, valid_at_ms: int | None = None
) -> dict[str, str]:
    """What is said of things under ``predicate``, id -> value, as known and as valid at a time (default: by now).

    The latest valid assertion holds; of two with one valid time the one recorded later.
    """
    return await graph.read(lambda transaction: _status(transaction, predicate, known_at_ms, valid_at_ms))


async def decision(graph: Graph, request_id: str, *, account: str | None = None) -> Decided:
    """How a request was answered.

    Raises:
        UnknownName: the graph has no decision on it.
        InvalidInput: several accounts used that request id; name one.
    """
    return await graph.read(lambda transaction: _decided(transaction, request_id, account))


async def account_statement(graph: Graph, account: str, *, since_ms: int = 0) -> Statement:
    """What ``account`` was charged since a time, split by phase and method.

    Raises:
        UnknownAccount: the graph has no such account.
    """
    rows = await graph.rows(
        "MATCH (a:EnergyAccount {id: $id}) OPTIONAL MATCH (e:EnergyReading)-[:CHARGED_TO]->(a) "
        "WHERE coalesce(e.at_ms, 0) >= $since_ms "
        "RETURN properties(a) AS account, e.phase AS phase, e.method AS method, count(e) AS readings, "
        "sum(e.mj) AS mj, sum(e.lo_mj) AS lo_mj, sum(e.hi_mj) AS hi_mj", id=account, since_ms=since_ms)
    if not rows:
        raise UnknownAccount(f"the graph knows no account {account!r}; nothing was charged to it yet")
    lines = [Joules(row["phase"], row["method"], int(row["mj"]), int(row["lo_mj"]), int(row["hi_mj"]), row["readings"])
             for row in rows if row["readings"]]
    lines.sort(key=lambda line: (line.phase, line.method))
    return Statement(Thing("EnergyAccount", account, rows[0]["account"]), tuple(lines))


async def best_model(
    graph: Graph, domain: str, *, metric: str = "vrmse", split: str = "test", higher_is_better: bool = False
) -> Best:
    """The untainted model with the best last value of ``metric`` on ``split``.

    A model is tainted if it, or anything it was made from, is asserted to be (``tainted`` = ``true``).

    Raises:
        UnknownDomain: no model of the domain has the metric, or all are tainted.
    """
    return await graph.read(lambda transaction: _best(transaction, domain, metric, split, higher_is_better))


async def _best(transaction: Transaction, domain: str, metric: str, split: str, higher_is_better: bool) -> Best:
    rows = await transaction.rows(
        "MATCH (s:MetricSeries {name: $metric})-[:EVALUATES]->(m:ModelVersion) "
        "WHERE s.split = $split AND m.domain = $domain "
        "RETURN m.id AS id, properties(m) AS properties, s.last AS score", metric=metric, split=split, domain=domain)
    sign = -1 if higher_is_better else 1
    rows.sort(key=lambda row: (sign * row["score"], row["id"]))
    said = await _status(transaction, "tainted", None, None)
    tainted = {id for id, value in said.items() if value == "true"}
    passed_over: list[str] = []
    for row in rows:
        made_from = await walk(transaction, row["id"], to_earlier=ORIGIN) if tainted else None
        if made_from is None or tainted.isdisjoint(thing.id for thing in made_from.things):
            model = Thing("ModelVersion", row["id"], row["properties"])
            return Best(model, metric, row["score"], tuple(passed_over))
        passed_over.append(row["id"])
    raise UnknownDomain(f"no untainted model of domain {domain!r} has a {metric} on {split} "
                        f"({len(passed_over)} tainted); train one: nvp.train({domain!r}, data=..., budget_j=...)")


async def _status(
    transaction: Transaction, predicate: str, known_at_ms: int | None, valid_at_ms: int | None
) -> dict[str, str]:
    end_of_time = 2**63 - 1
    rows = await transaction.rows(
        "MATCH (a:Assertion {predicate: $predicate})-[:ABOUT]->(x) "
        "WHERE a.recorded_ms <= $known_at AND a.valid_from_ms <= $valid_at "
        "RETURN x.id AS about, a.value AS said ORDER BY a.valid_from_ms, a.recorded_ms, a.id", predicate=predicate,
        known_at=end_of_time if known_at_ms is None else known_at_ms,
        valid_at=end_of_time if valid_at_ms is None else valid_at_ms)
    return {row["about"]: row["said"] for row in rows}


async def _decided(transaction: Transaction, request_id: str, account: str | None) -> Decided:
    rows = await transaction.rows(
        "MATCH (d:Decision {request_id: $request_id})-[:WAS_ATTRIBUTED_TO]->(a:Agent) "
        "RETURN d.id AS id, properties(d) AS properties, a.id AS asker ORDER BY d.at_ms DESC", request_id=request_id)
    rows = [row for row in rows if account is None or row["asker"] == f"ace:{account}"]
    if not rows:
        raise UnknownName(f"the graph knows no decision on request {request_id!r}; "
                          "if it was answered just now, the recorder may not be there yet")
    if (askers := len({row["asker"] for row in rows})) > 1:
        raise InvalidInput(f"{askers} accounts used the request id {request_id!r}; name the account")
    found = Thing("Decision", rows[0]["id"], rows[0]["properties"])
    around = await transaction.rows(
        "MATCH (d:Decision {id: $id})-[r:WAS_ATTRIBUTED_TO|WAS_ASSOCIATED_WITH|WAS_DERIVED_FROM]->(y) "
        "RETURN type(r) AS kind, y.id AS id ORDER BY id", id=found.id)
    ends = {kind: tuple(row["id"] for row in around if row["kind"] == kind)
            for kind in ("WAS_ATTRIBUTED_TO", "WAS_ASSOCIATED_WITH", "WAS_DERIVED_FROM")}
    votes = await transaction.rows(
        "MATCH (v:Vote)-[:VOTE_IN]->(d:Decision {id: $id}) OPTIONAL MATCH (v)-[:WAS_DERIVED_FROM]->(m:ModelVersion) "
        "RETURN v.voter AS voter, m.id AS model_id, v.value_digest AS value_digest, v.dissent AS dissent, "
        "v.signature AS signature, v.at_ms AS at_ms ORDER BY voter", id=found.id)
    readings = {row["id"]: row for paid in _PAID for row in await transaction.rows(paid, id=found.id)}
    return Decided(
        decision=found,
        asked_by=next(iter(ends["WAS_ATTRIBUTED_TO"]), None),
        decided_by=next(iter(ends["WAS_ASSOCIATED_WITH"]), None),
        models=ends["WAS_DERIVED_FROM"],
        ballots=tuple(Ballot(**row) for row in votes),
        joules=_summed(row["properties"] for row in readings.values()),
        paid_by=tuple(sorted({row["account"] for row in readings.values() if row["account"]})),
    )


_PAID = tuple(
    f"MATCH {path}-[:METERED]->(e:EnergyReading) OPTIONAL MATCH (e)-[:CHARGED_TO]->(a:EnergyAccount) "
    "RETURN e.id AS id, properties(e) AS properties, a.id AS account"
    for path in ("(d:Decision {id: $id})", "(d:Decision {id: $id})<-[:VOTE_IN]-(v:Vote)")
)


def _summed(readings: Iterable[Row]) -> tuple[Joules, ...]:
    groups: dict[tuple[str, str], list[Row]] = {}
    for reading in readings:
        if "mj" in reading:  # a stub is a reading nobody has described yet
            groups.setdefault((reading["phase"], reading["method"]), []).append(reading)
    return tuple(
        Joules(phase, method, mj=sum(row["mj"] for row in rows), lo_mj=sum(row["lo_mj"] for row in rows),
               hi_mj=sum(row["hi_mj"] for row in rows), readings=len(rows))
        for (phase, method), rows in sorted(groups.items())
    )

