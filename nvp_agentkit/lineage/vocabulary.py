"""What may stand in the graph: labels with their properties, relationships with their ends.

Everything the writer puts into a Cypher text comes from these two tables, so a fact that arrives on a
stream can neither name a property of its own nor smuggle in a query. A new kind of thing is a new row
here, a constraint in ``schemas/graph/`` and a builder in `lineage.nodes`.

Properties never change. Times are epoch milliseconds (``_ms``), energy is millijoules (``_mj``).
"""

from __future__ import annotations

import math
import re
from enum import Enum

from nvp_agentkit.errors import InvalidMessage
from nvp_agentkit.messages import EdgeFact, NodeFact

MAX_TEXT = 65_536
INT64 = 2**63

Value = str | int | float | bool | list[int]


class Type(Enum):
    """What a property may hold."""

    TEXT = "text"
    DIGEST = "sha256:<64 hex digits>"
    INT = "an integer of 64 bits"
    FLOAT = "a finite number"
    BOOL = "true or false"
    INTS = "a list of integers"


TEXT, DIGEST, INT, FLOAT, BOOL, INTS = Type.TEXT, Type.DIGEST, Type.INT, Type.FLOAT, Type.BOOL, Type.INTS

LABELS: dict[str, dict[str, Type]] = {
    "DatasetVersion": {"digest": DIGEST, "uri": TEXT, "bytes": INT, "domain": TEXT, "units": TEXT, "shape": INTS},
    "ModelVersion": {"digest": DIGEST, "uri": TEXT, "bytes": INT, "domain": TEXT, "name": TEXT, "params": INT},
    "Config": {"json": TEXT, "seed": INT},
    "CodeVersion": {"version": TEXT, "commit": TEXT, "dirty": BOOL, "changes": DIGEST},
    "Environment": {"image": TEXT, "python": TEXT, "platform": TEXT, "cpu": TEXT, "threads": INT,
                    "jax": TEXT, "device": TEXT},
    "Run": {"kind": TEXT, "job_id": TEXT, "part": TEXT, "attempt": INT, "started_ms": INT, "ended_ms": INT,
            "outcome": TEXT},
    "MetricSeries": {"name": TEXT, "split": TEXT, "unit": TEXT, "n": INT, "last": FLOAT, "best": FLOAT,
                     "best_step": INT, "uri": TEXT, "digest": DIGEST},
    "EnergyReading": {"mj": INT, "lo_mj": INT, "hi_mj": INT, "method": TEXT, "sensor": TEXT, "domain": TEXT,
                      "calibration_id": TEXT, "cpu_ms": INT, "phase": TEXT, "at_ms": INT},
    "EnergyAccount": {"limit_mj": INT, "owner": TEXT},
    "Agent": {"name": TEXT, "kind": TEXT},
    "Decision": {"request_id": TEXT, "outcome": TEXT, "quorum": INT, "rule": TEXT, "reason": TEXT, "domain": TEXT,
                 "field_digest": DIGEST, "value_digest": DIGEST, "certificate": DIGEST, "certificate_uri": TEXT,
                 "at_ms": INT},
    "Vote": {"voter": TEXT, "value_digest": DIGEST, "dissent": BOOL, "signature": TEXT, "at_ms": INT},
    "PredictionBatch": {"n": INT, "from_ms": INT, "to_ms": INT, "mj": INT, "method": TEXT, "votes": INT,
                        "dissents": INT, "uri": TEXT, "digest": DIGEST},
    "Assertion": {"predicate": TEXT, "value": TEXT, "valid_from_ms": INT, "recorded_ms": INT, "reason": TEXT},
}

# Later -> earlier, after W3C PROV where it has the word: (labels it may leave from, labels it may lead to).
EDGES: dict[str, tuple[frozenset[str], frozenset[str]]] = {
    kind: (frozenset(source.split()), frozenset(target.split()))
    for kind, source, target in (
        ("USED", "Run", "DatasetVersion ModelVersion Config CodeVersion Environment"),
        ("WAS_GENERATED_BY", "DatasetVersion ModelVersion MetricSeries PredictionBatch", "Run"),
        ("WAS_DERIVED_FROM", "DatasetVersion ModelVersion PredictionBatch Vote Decision",
         "DatasetVersion ModelVersion PredictionBatch"),
        ("WAS_ASSOCIATED_WITH", "Run Decision", "Agent"),
        ("WAS_ATTRIBUTED_TO", "Decision Vote Assertion", "Agent"),
        ("METERED", "Run Decision Vote", "EnergyReading"),
        ("CHARGED_TO", "EnergyReading", "EnergyAccount"),
        ("EVALUATES", "MetricSeries", "ModelVersion"),
        ("VOTE_IN", "Vote", "Decision"),
        ("ABOUT", "Assertion", "DatasetVersion ModelVersion Run Agent EnergyAccount Decision"),
    )
}


def checked_properties(node: NodeFact) -> dict[str, Value]:
    """The node's properties, typed as the vocabulary says, nulls left out.

    Raises:
        InvalidMessage: unknown label or property, or a value of another type; the text names it.
    """
    types = LABELS.get(node.label)
    if types is None:
        raise InvalidMessage(f"unknown label {node.label!r}; known: {', '.join(LABELS)}")
    properties: dict[str, Value] = {}
    for name, value in node.properties.items():
        if name not in types:
            raise InvalidMessage(f"{node.label} has no property {name!r}; it has {', '.join(types)}")
        if value is not None:
            properties[name] = _typed(f"{node.label}.{name}", types[name], value)
    return properties


def check_edge(edge: EdgeFact) -> None:
    """Raise `InvalidMessage` unless the vocabulary knows this relationship between these labels."""
    ends = EDGES.get(edge.type)
    if ends is None:
        raise InvalidMessage(f"unknown relationship {edge.type!r}; known: {', '.join(EDGES)}")
    if edge.from_label not in ends[0] or edge.to_label not in ends[1]:
        raise InvalidMessage(
            f"{edge.from_label} -{edge.type}-> {edge.to_label} is not in the vocabulary; "
            f"it leads from {' or '.join(sorted(ends[0]))} to {' or '.join(sorted(ends[1]))}"
        )
    if not edge.from_id or not edge.to_id:  # MERGE on a null or empty key would make one node of many things
        raise InvalidMessage(f"{edge.type}: both ends need an id")


def _typed(where: str, kind: Type, value: object) -> Value:
    # bool is an int in Python, not in the graph.
    number = isinstance(value, int | float) and not isinstance(value, bool)
    match kind:
        case Type.TEXT if isinstance(value, str) and len(value) <= MAX_TEXT:
            return value
        case Type.DIGEST if isinstance(value, str) and re.fullmatch(r"sha256:[0-9a-f]{64}", value):
            return value
        case Type.BOOL if isinstance(value, bool):
            return value
        case Type.INT if number and isinstance(value, int) and -INT64 <= value < INT64:
            return value
        case Type.FLOAT if number and isinstance(value, int | float) and math.isfinite(value):
            return float(value)
        case Type.INTS if isinstance(value, list) and all(type(item) is int for item in value):
            return value
    shown = repr(value)
    limit = f" of at most {MAX_TEXT} characters" if kind is Type.TEXT else ""
    raise InvalidMessage(f"{where} must be {kind.value}{limit}, got {shown[:80]}")
