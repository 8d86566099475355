"""One history, one set of answers: what each graph server says is compared with the same page.

The page is `answers.json`, which holds what every named query answers. Where a change of it is meant, delete it;
the next run writes it anew, and the diff shows what changed.
"""

from __future__ import annotations

import inspect
import json
from collections.abc import Iterator
from dataclasses import asdict, is_dataclass
from pathlib import Path
from typing import Any

from nvp_agentkit.lineage import queries
from nvp_agentkit.lineage.writer import Batch

ANSWERS = Path(__file__).with_name("answers.json")


def asked(history: Any) -> dict[str, tuple[str, ...]]:
    """One way to ask each named query about `History`."""
    first, last = history.models[0].id, history.models[-1].id
    return {
        "account_statement": (history.account,),
        "ancestry": (first,),
        "best_model": ("plasma_physics",),
        "called": (first.replace("sha256:", "")[:18],),
        "decision": (history.request_id,),
        "descendants": (history.data.id,),
        "joules_of": (last,),
        "reproduce": (first,),
        "status": ("stage",),
    }


def named_queries() -> Iterator[str]:
    for name, query in inspect.getmembers(queries, inspect.iscoroutinefunction):
        if query.__module__ == queries.__name__ and not name.startswith("_"):
            yield name


def plain(answer: Any) -> Any:
    """As JSON has it."""
    parts = answer if isinstance(answer, tuple) else (answer,)
    return json.loads(json.dumps([asdict(part) if is_dataclass(part) else part for part in parts]))


def test_every_named_query_is_asked(history):
    assert sorted(asked(history)) == list(named_queries())


async def test_every_named_query_answers_the_same(lineage, history):
    stage = history.asserted(history.asker, "stage", "plan", valid_ms=1, recorded_ms=2)
    await lineage.write([*history.bundles(), stage])
    said = {name: plain(await getattr(queries, name)(lineage, *about)) for name, about in asked(history).items()}
    if not ANSWERS.exists():
        ANSWERS.write_text(json.dumps(said, indent=1, sort_keys=True) + "\n")
    known = json.loads(ANSWERS.read_text())
    assert {name: answer for name, answer in said.items() if answer != known.get(name)} == {}
    assert known.keys() == said.keys()


async def test_the_graph_holds_what_it_was_told_and_nothing_else(lineage, history, dump):
    await lineage.write(history.bundles())
    told = Batch.of(history.bundles())
    found, links = await dump()
    assert found == sorted(
        ([[label], sorted({"id": id, **properties}.items())]
         for label, nodes in told.nodes.items() for id, properties in nodes.items()), key=repr)
    assert links == sorted(
        (sorted({"la": [later], "a": a, "kind": kind, "lb": [earlier], "b": b, "properties": {}}.items())
         for (kind, later, earlier), ends in told.edges.items() for a, b in ends), key=repr)
