"""The schema is brought up to date in order, once, by whoever comes first."""

from __future__ import annotations

import asyncio

import pytest

from nvp_agentkit.errors import ConflictingFact, StackError
from nvp_agentkit.lineage.graph import Graph
from nvp_agentkit.lineage.migrate import Migration, migrate, packaged
from nvp_agentkit.lineage.vocabulary import LABELS


def test_migrations_are_numbered_and_in_order():
    names = [migration.id for migration in packaged()]
    assert [name.split("_")[0] for name in names] == [f"{number:03}" for number in range(1, len(names) + 1)]


def test_every_label_has_one_node_per_id():
    statements = [statement for migration in packaged() for statement in migration.statements]
    unique = {statement.split("(n:")[1].split(")")[0] for statement in statements if "IS UNIQUE" in statement}
    assert unique == {*LABELS, "Migration"}


def test_comments_are_no_statements():
    assert Migration("001_x", "// one; two\nRETURN 1;\n\nRETURN 2;\n").statements == ["RETURN 1", "RETURN 2"]


async def test_each_migration_is_applied_once(lineage):
    assert await migrate(lineage) == [migration.id for migration in packaged()]
    assert await migrate(lineage) == []


async def test_several_processes_may_migrate_at_once(lineage, place):
    others = [Graph.connect(place) for _ in range(4)]
    try:
        await asyncio.gather(*(other.ready() for other in others))
    finally:
        await asyncio.gather(*(other.close() for other in others))
    assert await migrate(lineage) == []


async def test_a_migration_edited_after_it_was_applied_is_refused(lineage):
    await migrate(lineage, [Migration("900_test", "RETURN 1;")])
    with pytest.raises(StackError, match=r"900_test\.cypher was changed .* add a file with a higher number"):
        await migrate(lineage, [Migration("900_test", "RETURN 2;")])


async def test_the_constraint_holds_against_a_writer_that_does_not_merge(lineage):
    await lineage.ready()
    with pytest.raises(ConflictingFact):
        await lineage.change(lambda transaction: transaction.rows("CREATE (:Run {id: 'r'}) CREATE (:Run {id: 'r'})"))
    assert await lineage.rows("MATCH (n:Run) RETURN n.id AS id") == []
