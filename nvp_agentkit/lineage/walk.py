"""Walks through the graph to the fixpoint, level by level.

A bound like ``*1..8`` is a silent false negative, and an unbounded ``*`` enumerates every path: in a
ladder of 20 diamonds that is a million paths through 61 nodes. So the frontier is carried here: a query
a level and label, each node visited once, cycles harmless.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from nvp_agentkit.errors import UnknownModel, UnknownName
from nvp_agentkit.lineage.nodes import label_of
from nvp_agentkit.lineage.transaction import Transaction

FRONTIER = 500

ORIGIN = "USED|WAS_GENERATED_BY|WAS_DERIVED_FROM"


@dataclass(frozen=True)
class Thing:
    """A node as the graph knows it. A stub, named by an edge and described by nobody, has no properties."""

    label: str
    id: str
    properties: dict[str, Any] = field(compare=False)

    def __getitem__(self, name: str) -> Any:
        """A property, or None where it is not known."""
        return self.properties.get(name)


@dataclass(frozen=True, order=True)
class Link:
    """``later -kind-> earlier``, by id."""

    later: str
    kind: str
    earlier: str


@dataclass(frozen=True)
class Lineage:
    """What a walk found: the start first, then the things by distance; the links between them."""

    start: Thing
    things: tuple[Thing, ...]
    links: tuple[Link, ...]

    def labelled(self, *labels: str) -> tuple[Thing, ...]:
        """The things of these labels, nearest first."""
        return tuple(thing for thing in self.things if thing.label in labels)

    def earlier(self, later: str, kind: str, *labels: str) -> tuple[Thing, ...]:
        """What the thing with id ``later`` points to by ``kind``, of these labels (of any, if none is named)."""
        ends = {link.earlier for link in self.links if link.later == later and link.kind == kind}
        return tuple(thing for thing in self.things if thing.id in ends and (not labels or thing.label in labels))


async def walk(
    transaction: Transaction, start_id: str, *, to_earlier: str | None = None, to_later: str | None = None
) -> Lineage:
    """Everything reached from ``start_id``.

    Args:
        to_earlier: relationship types to follow in their direction, as ``A|B``.
        to_later: types to follow against it.

    Raises:
        UnknownName: the graph has no such thing (`UnknownModel` for a model).
    """
    start = await thing(transaction, start_id)
    patterns = [f"-[r:{to_earlier}]->"] if to_earlier else []
    patterns += [f"<-[r:{to_later}]-"] if to_later else []
    found = {(start.label, start.id): start}
    links: set[Link] = set()
    frontier = [start]
    while frontier:
        reached: dict[tuple[str, str], Thing] = {}
        for pattern in patterns:
            for link, other in await _step(transaction, frontier, pattern):
                links.add(link)
                reached[other.label, other.id] = other
        frontier = [reached[key] for key in sorted(reached.keys() - found.keys())]
        found |= {(other.label, other.id): other for other in frontier}
    return Lineage(start, tuple(found.values()), tuple(sorted(links)))


async def thing(transaction: Transaction, id: str) -> Thing:
    """The node with this id.

    Raises:
        UnknownName: the graph has no such thing (`UnknownModel` for a model).
    """
    label = label_of(id)
    rows = await transaction.rows(f"MATCH (x:{label} {{id: $id}}) RETURN properties(x) AS properties", id=id)
    if not rows:
        unknown = UnknownModel if label == "ModelVersion" else UnknownName
        raise unknown(f"the graph knows no {label} {id}; if it was made just now, the recorder may not be there yet")
    return Thing(label, id, rows[0]["properties"])


async def _step(transaction: Transaction, frontier: Iterable[Thing], pattern: str) -> list[tuple[Link, Thing]]:
    by_label: dict[str, list[str]] = {}
    for here in frontier:
        by_label.setdefault(here.label, []).append(here.id)
    steps = []
    for label, ids in by_label.items():  # by label, for the index on id is a label's
        cypher = (f"UNWIND $ids AS here MATCH (x:{label} {{id: here}}){pattern}(y) "
                  "RETURN here AS from_id, type(r) AS kind, head(labels(y)) AS label, y.id AS id, "
                  "properties(y) AS properties")
        for first in range(0, len(ids), FRONTIER):
            for row in await transaction.rows(cypher, ids=ids[first:first + FRONTIER]):
                other = Thing(row["label"], row["id"], row["properties"])
                ends = (row["from_id"], other.id) if pattern.endswith(">") else (other.id, row["from_id"])
                steps.append((Link(ends[0], row["kind"], ends[1]), other))
    return steps
