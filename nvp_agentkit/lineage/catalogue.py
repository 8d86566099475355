"""The Energy Atlas as the graph knows it: which datasets there are, who made them, from what, at what cost."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace

from nvp_agentkit.errors import InvalidInput, UnknownName
from nvp_agentkit.lineage.graph import Graph
from nvp_agentkit.lineage.nodes import WHOLE, asked
from nvp_agentkit.lineage.walk import Thing
from nvp_agentkit.messages import DatasetSpec, ObjectRef

ID = re.compile(r"(?:dataset:)?(?:sha256:)?([0-9a-f]{4,64})")
SAFETENSORS = "application/vnd.safetensors"


@dataclass(frozen=True)
class Entry:
    """One dataset, by the newest run that made it, with the joules of the parts it was joined from.

    ``part_of``: the datasets it was joined into.
    """

    dataset: Thing
    run: Thing
    mj: int
    method: str | None
    part_of: tuple[str, ...] = ()

    @property
    def ref(self) -> ObjectRef:
        """Where its bytes lie."""
        dataset = self.dataset
        return ObjectRef(uri=dataset["uri"], digest=dataset["digest"], bytes=dataset["bytes"], media_type=SAFETENSORS)

    @property
    def domain(self) -> str:
        return str(self.dataset["domain"])


async def entries(graph: Graph) -> tuple[Entry, ...]:
    """Every dataset that a run has made, the newest first."""
    rows = await graph.rows(
        "MATCH (d:DatasetVersion)-[:WAS_GENERATED_BY]->(r:Run) WHERE d.domain IS NOT NULL "
        "OPTIONAL MATCH (r)-[:METERED]->(e:EnergyReading) "
        "RETURN d.id AS id, properties(d) AS dataset, r.id AS run_id, properties(r) AS run, e.mj AS mj, "
        "e.method AS method ORDER BY r.ended_ms DESC, id")
    joined = await graph.rows(
        "MATCH (whole:DatasetVersion)-[:WAS_DERIVED_FROM]->(part:DatasetVersion) "
        "RETURN part.id AS part, whole.id AS whole ORDER BY whole")
    newest: dict[str, Entry] = {}
    for row in rows:
        dataset, run = Thing("DatasetVersion", row["id"], row["dataset"]), Thing("Run", row["run_id"], row["run"])
        known = newest.setdefault(row["id"], Entry(dataset, run, 0, None))
        if known.run.id == run.id:
            newest[row["id"]] = replace(known, mj=known.mj + (row["mj"] or 0), method=row["method"])
    for row in joined:
        part, whole = newest.get(row["part"]), newest.get(row["whole"])
        if part is not None and whole is not None:
            newest[row["part"]] = replace(part, part_of=(*part.part_of, row["whole"]))
            newest[row["whole"]] = replace(whole, mj=whole.mj + part.mj)
    return tuple(newest.values())


async def find(graph: Graph, name: str) -> Entry:
    """The dataset called ``name``: a domain (its newest whole dataset), an id, or the beginning of its digest.

    Raises:
        UnknownName: there is none.
        InvalidInput: the beginning of several digests.
    """
    known = await entries(graph)
    of_domain = [entry for entry in known if entry.domain == name]
    if of_domain:
        return next((entry for entry in of_domain if not entry.part_of), of_domain[0])
    match = ID.fullmatch(name)
    found = [entry for entry in known if match and entry.ref.digest.startswith(f"sha256:{match[1]}")]
    if len(found) > 1:
        raise InvalidInput(f"{len(found)} datasets begin with {name!r}; give more of the digest")
    if not found:
        domains = ", ".join(sorted({entry.domain for entry in known})) or "none yet; `nvp atlas import` adds one"
        raise UnknownName(f"no dataset {name!r} in the atlas; there are of {domains}. `nvp atlas list` shows all")
    return found[0]


async def made(graph: Graph, spec: DatasetSpec, *, version: str) -> ObjectRef | None:
    """What code of ``version`` has made already when it was asked for just this."""
    rows = await graph.rows(
        "MATCH (d:DatasetVersion)-[:WAS_GENERATED_BY]->(r:Run)-[:USED]->(c:Config {id: $config}) "
        "MATCH (r)-[:USED]->(v:CodeVersion) WHERE v.version = $version "
        "RETURN d.uri AS uri, d.digest AS digest, d.bytes AS bytes ORDER BY r.ended_ms DESC LIMIT 1",
        config=asked(spec).id, version=version)
    return ObjectRef(**rows[0], media_type=SAFETENSORS) if rows else None


async def looks(graph: Graph, entry: Entry) -> dict[str, Thing]:
    """How a dataset looks, by name: numbers, and series whose ``n`` values are an array at ``uri``."""
    rows = await graph.rows(
        "MATCH (d:DatasetVersion {id: $id})-[:WAS_GENERATED_BY]->(r:Run)<-[:WAS_GENERATED_BY]-(s:MetricSeries) "
        "WHERE s.split = $whole RETURN s.id AS id, properties(s) AS series ORDER BY r.ended_ms",
        id=entry.dataset.id, whole=WHOLE)
    return {row["series"]["name"]: Thing("MetricSeries", row["id"], row["series"]) for row in rows}


async def descriptors(graph: Graph) -> dict[str, Thing]:
    """The newest descriptor of every dataset that has one, by the dataset's id."""
    rows = await graph.rows(
        "MATCH (d:DatasetVersion)-[:WAS_GENERATED_BY]->(r:Run)<-[:WAS_GENERATED_BY]-(s:MetricSeries) "
        "WHERE s.name = 'descriptor' AND s.split = $whole "
        "RETURN d.id AS dataset, s.id AS id, properties(s) AS series ORDER BY r.ended_ms", whole=WHOLE)
    return {row["dataset"]: Thing("MetricSeries", row["id"], row["series"]) for row in rows}

