"""What may stand in the graph: labels with their properties, relationships with their ends.

Everything the writer puts into a Cypher text comes from these two tables, so a fact that arrives on a
stream can neither name a property of its own nor smuggle in a query. A new kind of thing is a new row
here, a constraint in ``schemas/graph/`` and a builder in `lineage.nodes`.

Properties never change. Times are epoch milliseconds (``_ms``), energy is millijoules (``_mj``).
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from enum import Enum
from typing import cast

from nvp_agentkit.errors import InvalidMessage
from nvp_agentkit.messages import EdgeFact, NodeFact

MAX_TEXT = 65_536
MAX_NAME = 256  # names are indexed, and Neo4j's index keys end at 8 kB
INT64 = 2**63

Value = str | int | float | bool | list[str] | list[int] | list[float]


class Type(Enum):
    """What a property may hold."""

    NAME = f"a text of at most {MAX_NAME} characters"
    TEXT = f"a text of at most {MAX_TEXT} characters"
    DIGEST = "sha256:<64 hex digits>"
    INT = "an integer of 64 bits"
    FLOAT = "a finite number"
    BOOL = "true or false"
    INTS = "a list of integers"


NAME, TEXT, DIGEST = Type.NAME, Type.TEXT, Type.DIGEST
INT, FLOAT, BOOL, INTS = Type.INT, Type.FLOAT, Type.BOOL, Type.INTS

# `type(...) is int` leaves bool out, which is an int in Python and not in the graph.
FITS: dict[Type, Callable[[object], bool]] = {
    NAME: lambda value: isinstance(value, str) and len(value) <= MAX_NAME,
    TEXT: lambda value: isinstance(value, str) and len(value) <= MAX_TEXT,
    DIGEST: lambda value: isinstance(value, str) and re.fullmatch(r"sha256:[0-9a-f]{64}", value) is not None,
    INT: lambda value: type(value) is int and -INT64 <= value < INT64,
    FLOAT: lambda value: type(value) in (int, float) and math.isfinite(cast(float, value)),
    BOOL: lambda value: isinstance(value, bool),
    INTS: lambda value: isinstance(value, list) and all(type(item) is int for item in value),
}

LABELS: dict[str, dict[str, Type]] = {
    "DatasetVersion": {"digest": DIGEST, "uri": TEXT, "bytes": INT, "domain": NAME, "units": NAME, "shape": INTS,
                       "dt_s": FLOAT, "dx_m": FLOAT, "variant": NAME},
    "ModelVersion": {"digest": DIGEST, "uri": TEXT, "bytes": INT, "domain": NAME, "name": NAME, "params": INT},
    "Config": {"json": TEXT, "seed": INT},
    "CodeVersion": {"version": NAME, "commit": NAME, "dirty": BOOL, "changes": DIGEST},
    "Environment": {"image": TEXT, "python": NAME, "platform": NAME, "cpu": TEXT, "threads": INT,
                    "jax": NAME, "device": NAME},
    "Run": {"kind": NAME, "job_id": NAME, "part": NAME, "attempt": INT, "started_ms": INT, "ended_ms": INT,
            "outcome": NAME, "reason": TEXT},
    "MetricSeries": {"name": NAME, "split": NAME, "unit": NAME, "n": INT, "last": FLOAT, "best": FLOAT,
                     "best_step": INT, "uri": TEXT, "digest": DIGEST},
    "EnergyReading": {"mj": INT, "lo_mj": INT, "hi_mj": INT, "method": NAME, "sensor": NAME, "domain": NAME,
                      "calibration_id": NAME, "cpu_ms": INT, "phase": NAME, "at_ms": INT},
    "EnergyAccount": {"limit_mj": INT, "owner": NAME},
    "Agent": {"name": NAME, "kind": NAME},
    "Decision": {"request_id": NAME, "outcome": NAME, "quorum": INT, "rule": NAME, "reason": TEXT, "domain": NAME,
                 "field_digest": DIGEST, "value_digest": DIGEST, "certificate": DIGEST, "certificate_uri": TEXT,
                 "at_ms": INT},
    "Vote": {"voter": NAME, "value_digest": DIGEST, "dissent": BOOL, "signature": TEXT, "at_ms": INT},
    "PredictionBatch": {"n": INT, "from_ms": INT, "to_ms": INT, "mj": INT, "method": NAME, "votes": INT,
                        "dissents": INT, "uri": TEXT, "digest": DIGEST},
    "Assertion": {"predicate": NAME, "value": TEXT, "valid_from_ms": INT, "recorded_ms": INT, "reason": TEXT},
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
            if not FITS[types[name]](value):
                raise InvalidMessage(f"{node.label}.{name} must be {types[name].value}, got {repr(value)[:80]}")
            # 1 and 1.0 are one JSON number, and two Cypher types.
            properties[name] = float(value) if types[name] is FLOAT and isinstance(value, int) else value
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
