"""The graph server: does it let us in, does it answer, is it new enough?"""

from __future__ import annotations

from urllib.parse import urlsplit

from nvp_agentkit.cli.doctor.finding import Finding, broken, ok
from nvp_agentkit.settings import Settings

NAME = "graph"
OLDEST = 5
SCHEMES = {"bolt", "bolt+s", "bolt+ssc", "neo4j", "neo4j+s", "neo4j+ssc"}


async def findings(settings: Settings, *, ours: bool) -> list[Finding]:
    """``ours``: the server is an embedded one."""
    from nvp_agentkit.errors import StoreUnavailable
    from nvp_agentkit.lineage.graph import Graph

    scheme = urlsplit(settings.neo4j_uri or "").scheme
    if scheme not in SCHEMES:
        return [broken(NAME, f"NVP_NEO4J_URI: {scheme or 'nothing'}:// is no graph's scheme", "write bolt://host:7687")]
    try:
        async with Graph.connect(settings) as graph:
            (row,) = await graph.rows("CALL dbms.components() YIELD name, versions RETURN versions[0] AS version")
    except StoreUnavailable as error:
        what, _, remedy = str(error).partition("; ")
        if ours:
            remedy = "see `nvp logs arcadedb`; `nvp down`, then `nvp up` start it anew"
        return [broken(NAME, what, remedy or "start that server, or correct NVP_NEO4J_URI")]
    return [version(str(row["version"]))]


def version(neo4j: str) -> Finding:
    """``neo4j`` is the version of Neo4j that the server is or is compatible with."""
    major = neo4j.partition(".")[0]
    if major.isdigit() and int(major) < OLDEST:
        return broken(NAME, f"Neo4j {neo4j}; needed is 5", "install a newer server, or unset NVP_NEO4J_URI")
    return ok(NAME, f"answers; Neo4j {neo4j} or compatible")
