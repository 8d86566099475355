"""What the recorder writes into the graph: nodes and relationships, as in `lineage.nodes`."""

from __future__ import annotations

from pydantic import Field

from nvp_agentkit.messages.values import Payload

Scalar = str | int | float | bool | None


class NodeFact(Payload):
    """A node that shall exist. Writing it twice is writing it once."""

    label: str = Field(pattern=r"^[A-Z][A-Za-z]{2,40}$")
    id: str = Field(min_length=1, max_length=256)
    properties: dict[str, Scalar | list[str] | list[int] | list[float]] = Field(default_factory=dict)


class EdgeFact(Payload):
    """A relationship that shall exist, from the later thing to the earlier one."""

    type: str = Field(pattern=r"^[A-Z][A-Z_]{2,40}$")
    from_label: str
    from_id: str
    to_label: str
    to_id: str


class LineageRecorded(Payload):
    """A bundle of facts that belong together."""

    nodes: tuple[NodeFact, ...] = ()
    edges: tuple[EdgeFact, ...] = ()
