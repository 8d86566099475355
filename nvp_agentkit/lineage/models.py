"""A trained model by what a person calls it."""

from __future__ import annotations

from nvp_agentkit.errors import UnknownModel
from nvp_agentkit.lineage.catalogue import SAFETENSORS
from nvp_agentkit.lineage.graph import Graph
from nvp_agentkit.lineage.queries import called
from nvp_agentkit.messages import ObjectRef

CHAMPION = "voter-0"


async def find_model(graph: Graph, name: str) -> ObjectRef:
    """The weights of ``name``: a model's id or its beginning, DOMAIN/VOTER, or a domain (its champion); the newest.

    Raises:
        UnknownModel: there is none.
        InvalidInput: the beginning of several ids.
    """
    if ":" in name:
        match, value = "m.id = $value", await called(graph, name)
    else:
        match, value = "m.name = $value", name if "/" in name else f"{name}/{CHAMPION}"
    rows = await graph.rows(
        f"MATCH (m:ModelVersion) WHERE {match} AND m.uri IS NOT NULL OPTIONAL MATCH (m)-[:WAS_GENERATED_BY]->(r:Run) "
        "RETURN m.uri AS uri, m.digest AS digest, m.bytes AS bytes, r.ended_ms AS ended_ms "
        "ORDER BY ended_ms DESC LIMIT 1", value=value)
    if not rows:
        raise UnknownModel(
            f"the graph knows no trained model {name!r}; give an id, a domain, DOMAIN/voter-1, or a file"
        )
    row = rows[0]
    return ObjectRef(uri=row["uri"], digest=row["digest"], bytes=row["bytes"], media_type=SAFETENSORS)
