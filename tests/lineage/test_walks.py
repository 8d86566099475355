"""Walks end at the fixpoint: not at a depth, not in a cycle, not after every path."""

from __future__ import annotations

from itertools import pairwise

import pytest

from nvp_agentkit.errors import UnknownModel, UnknownName
from nvp_agentkit.lineage import edges, nodes, queries
from nvp_agentkit.messages import NodeFact


def model(number: int) -> NodeFact:
    return nodes.node("ModelVersion", f"model:sha256:{number:064x}", name=f"m{number}", domain="plasma_physics")


async def test_a_chain_of_twelve_is_walked_to_its_end(lineage):
    facts, data = edges.Facts(), nodes.node("DatasetVersion", "dataset:first", domain="plasma_physics")
    chain = [facts.add(thing) for thing in (data, *map(model, range(12)))]
    for earlier, later in pairwise(chain):
        facts.link(edges.was_derived_from(later, earlier))
    await lineage.write([facts.bundle()])
    found = await queries.ancestry(lineage, chain[-1].id)
    assert [thing.id for thing in found.things] == [node.id for node in reversed(chain)]
    tainted = await queries.descendants(lineage, data.id)
    assert [thing.id for thing in tainted.things] == [node.id for node in chain]


async def test_taint_at_the_far_end_of_the_chain_is_seen(lineage, history):
    facts, data = edges.Facts(), nodes.node("DatasetVersion", "dataset:first")
    chain = [facts.add(thing) for thing in (data, *map(model, range(12)))]
    for earlier, later in pairwise(chain):
        facts.link(edges.was_derived_from(later, earlier))
    run = facts.add(nodes.node("Run", "run:x"))
    for number, score in ((11, 0.1), (20, 0.3)):
        measured = facts.add(nodes.metric_series(run, facts.add(model(number)), name="vrmse", split="test", last=score))
        facts.link(edges.evaluates(measured, model(number)))
    await lineage.write([facts.bundle()])
    assert (await queries.best_model(lineage, "plasma_physics")).model.id == model(11).id
    await lineage.write([history.asserted(data, "tainted", "true", valid_ms=1, recorded_ms=2)])
    best = await queries.best_model(lineage, "plasma_physics")
    assert (best.model.id, best.value, best.passed_over) == (model(20).id, 0.3, (model(11).id,))
    await lineage.write([history.asserted(data, "tainted", "false", valid_ms=1, recorded_ms=3)])
    assert (await queries.best_model(lineage, "plasma_physics")).model.id == model(11).id


@pytest.mark.timeout(30)
async def test_a_ladder_of_diamonds_is_walked_by_node_not_by_path(lineage):
    facts, rungs = edges.Facts(), 20  # 2**20 paths from top to bottom
    for rung in range(rungs):
        left, right, below, top = (model(3 * rung + step) for step in (1, 2, 3, 0))
        for side in (left, right):
            facts.link(edges.was_derived_from(side, top), edges.was_derived_from(below, side))
    await lineage.write([facts.bundle()])
    found = await queries.ancestry(lineage, model(3 * rungs).id)
    assert len(found.things) == 3 * rungs + 1
    assert len(found.links) == 4 * rungs


async def test_a_cycle_ends(lineage):
    facts = edges.Facts()
    facts.link(edges.was_derived_from(model(1), model(2)), edges.was_derived_from(model(2), model(1)))
    await lineage.write([facts.bundle()])
    assert {thing.id for thing in (await queries.ancestry(lineage, model(1).id)).things} == {model(1).id, model(2).id}


async def test_a_wide_frontier_is_asked_for_in_pieces(lineage):
    facts, data = edges.Facts(), nodes.node("DatasetVersion", "dataset:first")
    for number in range(600):
        facts.link(edges.was_derived_from(model(number), data))
        facts.link(edges.was_derived_from(model(number + 1_000), model(number)))
    await lineage.write([facts.bundle()])
    assert len((await queries.descendants(lineage, data.id)).things) == 1_201


async def test_what_nobody_recorded_is_an_answer_not_an_empty_table(lineage):
    with pytest.raises(UnknownModel, match="knows no ModelVersion model:sha256:0"):
        await queries.ancestry(lineage, model(0).id)
    with pytest.raises(UnknownName, match="no id of the lineage graph"):
        await queries.ancestry(lineage, "champion")
