"""A running transaction, as writers and queries see it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from neo4j import AsyncManagedTransaction

Row = dict[str, Any]


class Transaction:
    """A managed transaction; `rows` is all one needs of it."""

    def __init__(self, transaction: AsyncManagedTransaction) -> None:
        self._transaction = transaction

    async def rows(self, cypher: str, **parameters: object) -> list[Row]:
        """Run one statement to its end and return its records."""
        # Texts are ours: literals, migration files, names of the vocabulary. Values travel as parameters.
        result = await self._transaction.run(cypher, parameters)
        return [record.data() async for record in result]
