"""The graph's schema: ordered files in ``schemas/graph/``, each applied once and recorded in the graph.

A file that was applied never changes again; what comes later is a file with a higher number. Statements
are idempotent (``IF NOT EXISTS``), so a crash between a statement and its record does no harm.
"""

from __future__ import annotations

import time
from collections.abc import Iterable
from dataclasses import dataclass
from functools import partial
from importlib.resources import files
from typing import TYPE_CHECKING

from nvp_agentkit.errors import StackError
from nvp_agentkit.lineage.transaction import Transaction
from nvp_agentkit.messages.values import digest_of

if TYPE_CHECKING:
    from nvp_agentkit.lineage.graph import Graph


@dataclass(frozen=True)
class Migration:
    """One file: its name without suffix, and its text."""

    id: str
    text: str

    @property
    def digest(self) -> str:
        return digest_of(self.text.encode())

    @property
    def statements(self) -> list[str]:
        """The statements between the semicolons, comment lines left out."""
        lines = [line for line in self.text.splitlines() if not line.lstrip().startswith("//")]
        return [statement.strip() for statement in "\n".join(lines).split(";") if statement.strip()]


def packaged() -> list[Migration]:
    """The migrations this version ships, in order."""
    folder = files("nvp_agentkit") / "schemas" / "graph"
    found = [Migration(file.name.removesuffix(".cypher"), file.read_text("utf-8"))
             for file in folder.iterdir() if file.name.endswith(".cypher")]
    return sorted(found, key=lambda migration: migration.id)


async def migrate(graph: Graph, migrations: Iterable[Migration] | None = None) -> list[str]:
    """Apply what is missing and return its names. Several processes may do so at once.

    Raises:
        StackError: a file was edited after it had been applied.
    """
    applied = {row["id"]: row["digest"] for row in await graph.rows(
        "MATCH (m:Migration) RETURN m.id AS id, m.digest AS digest")}
    done = []
    for migration in packaged() if migrations is None else migrations:
        if migration.id not in applied:
            await _apply(graph, migration)
            done.append(migration.id)
        elif applied[migration.id] != migration.digest:
            raise StackError(f"schemas/graph/{migration.id}.cypher was changed after it had been applied to this "
                                  "graph; restore it and add a file with a higher number")
    return done


async def _apply(graph: Graph, migration: Migration) -> None:
    for statement in migration.statements:  # a transaction each: Neo4j takes no schema and data in one
        await graph.change(partial(Transaction.rows, cypher=statement))
    await graph.change(partial(
        Transaction.rows,
        cypher="MERGE (m:Migration {id: $id}) "
               "SET m.digest = coalesce(m.digest, $digest), m.at_ms = coalesce(m.at_ms, $at_ms)",
        id=migration.id, digest=migration.digest, at_ms=time.time_ns() // 1_000_000,
    ))
