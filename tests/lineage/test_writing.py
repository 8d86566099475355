"""Facts come at least once and in any order; the graph is the same."""

from __future__ import annotations

import asyncio
import random

import pytest

from nvp_agentkit.errors import ConflictingFact, InvalidMessage
from nvp_agentkit.lineage import edges, nodes
from nvp_agentkit.lineage.graph import Graph
from nvp_agentkit.lineage.writer import Batch
from nvp_agentkit.messages import EdgeFact, LineageRecorded, NodeFact


async def test_loading_three_times_shuffled_and_half_doubled_is_loading_once(lineage, history, dump):
    bundles = history.bundles()
    await lineage.write(bundles)
    once = await dump()
    assert len(once[0]) == len({(node.label, node.id) for bundle in bundles for node in bundle.nodes})
    for seed in range(3):
        await lineage.change(lambda transaction: transaction.rows("MATCH (n) DETACH DELETE n"))
        again = bundles + bundles[::2]
        random.Random(seed).shuffle(again)
        for bundle in again:
            await lineage.write([bundle])
        assert await dump() == once


async def test_an_edge_may_come_before_the_things_it_joins(lineage, history, dump):
    bundles = history.bundles()
    await lineage.write([LineageRecorded(edges=bundle.edges) for bundle in bundles])
    await lineage.write([LineageRecorded(nodes=bundle.nodes) for bundle in bundles])
    in_pieces = await dump()
    await lineage.write(bundles)
    assert await dump() == in_pieces


async def test_another_digest_under_one_id_is_loud_and_changes_nothing(lineage, history, dump):
    await lineage.write(history.bundles())
    before = await dump()
    forged = NodeFact(label="ModelVersion", id=history.models[0].id, properties={"digest": "sha256:" + "f" * 64})
    fresh = nodes.config({"new": True})
    with pytest.raises(ConflictingFact, match=r"ModelVersion model:sha256:a+: digest is 'sha256:a+', and another"):
        await lineage.write([LineageRecorded(nodes=(fresh, forged))])
    assert await dump() == before


@pytest.mark.parametrize(("name", "was", "says"), [
    ("domain", "plasma", "rain"), ("bytes", 1, 2), ("shape", [1, 2], [2, 1]), ("shape", [1, 2], [1, 2, 3]),
])
async def test_any_property_that_differs_is_a_conflict(lineage, name, was, says):
    await lineage.write([LineageRecorded(nodes=(nodes.node("DatasetVersion", "dataset:x", **{name: was}),))])
    with pytest.raises(ConflictingFact, match=f"{name} is"):
        await lineage.write([LineageRecorded(nodes=(nodes.node("DatasetVersion", "dataset:x", **{name: says}),))])


def test_two_facts_of_one_batch_may_not_contradict_each_other():
    first, second = (nodes.node("Agent", "ace:a", name=name) for name in "ab")
    with pytest.raises(ConflictingFact, match="name is 'a', and another fact says 'b'"):
        Batch.of([LineageRecorded(nodes=(first,)), LineageRecorded(nodes=(second,))])


async def test_a_fact_from_a_stream_cannot_smuggle_in_a_query(lineage, history, dump):
    await lineage.write(history.bundles())
    before = await dump()
    query = "Run {id: 'x'}) DETACH DELETE (n"
    edge = EdgeFact(type="USED", from_label=query, from_id="a", to_label="Config", to_id="b")
    label = NodeFact(label="Run", id="run:x", properties={"kind = 'x' DETACH DELETE n //": "x"})
    for bundle in (LineageRecorded(edges=(edge,)), LineageRecorded(nodes=(label,))):
        with pytest.raises(InvalidMessage):
            await lineage.write([bundle])
    assert await dump() == before


async def test_a_bad_bundle_does_not_keep_its_neighbours_out(lineage, history, dump):
    bundles = history.bundles()
    forged = LineageRecorded(nodes=(NodeFact(label="Agent", id=history.asker.id, properties={"name": "eve"}),))
    unknown = LineageRecorded(nodes=(NodeFact(label="Nonsense", id="x"),))
    wrong = await lineage.write_each([*bundles[:3], forged, *bundles[3:], unknown])
    assert [type(error) for error in wrong if error] == [ConflictingFact, InvalidMessage]
    assert isinstance(wrong[3], ConflictingFact)
    assert isinstance(wrong[-1], InvalidMessage)
    kept = await dump()
    await lineage.write(bundles)
    assert await dump() == kept


@pytest.mark.parametrize("text", [
    "", "a'b\"c\\d`e", "$rows {id} //", "line\nline\t", "\u03c6 \u2192 \U0001f9ca", "nul\x00nul"])
async def test_any_text_comes_back_as_it_was_written(lineage, text):
    await lineage.write([LineageRecorded(nodes=(nodes.node("Decision", "decision:x", reason=text, request_id=text),))])
    assert await lineage.rows("MATCH (d:Decision {request_id: $text}) RETURN d.reason AS reason", text=text) == [
        {"reason": text}]


@pytest.mark.parametrize("number", [0, -1, 2**53 + 1, 2**63 - 1, -(2**63)])
async def test_any_integer_of_64_bits_comes_back_exactly(lineage, number):
    await lineage.write([LineageRecorded(nodes=(nodes.node("Run", "run:x", ended_ms=number),))])
    assert await lineage.rows("MATCH (r:Run) RETURN r.ended_ms AS ended_ms") == [{"ended_ms": number}]


async def test_nothing_to_write_is_no_error(lineage):
    assert await lineage.write_each([]) == []
    await lineage.write([LineageRecorded()])


async def test_a_lost_race_is_run_again(lineage, place, history, dump):
    """Six writers with connections of their own MERGE the same new ids at once."""
    await lineage.ready()
    others = [Graph.connect(place) for _ in range(6)]
    try:
        await asyncio.gather(*(other.ready() for other in others))
        await asyncio.gather(*(other.write(history.bundles()) for other in others))
    finally:
        await asyncio.gather(*(other.close() for other in others))
    after = await dump()
    await lineage.change(lambda transaction: transaction.rows("MATCH (n) DETACH DELETE n"))
    await lineage.write(history.bundles())
    assert await dump() == after


async def test_of_two_writers_that_contradict_each_other_one_is_told(lineage, place):
    await lineage.ready()
    said = [LineageRecorded(nodes=(nodes.node("Agent", "ace:a", name=name),)) for name in ("a", "b")]
    async with Graph.connect(place) as other:
        await other.ready()
        results = await asyncio.gather(lineage.write([said[0]]), other.write([said[1]]), return_exceptions=True)
    assert sorted(type(result).__name__ for result in results) == ["ConflictingFact", "NoneType"]


async def test_a_true_duplicate_ends_as_an_error(lineage):
    await lineage.ready()
    await lineage.change(lambda transaction: transaction.rows("CREATE (:Agent {id: 'ace:a'})"))
    with pytest.raises(ConflictingFact, match="not a race, a duplicate"):
        await lineage.change(lambda transaction: transaction.rows("CREATE (:Agent {id: 'ace:a'})"))


async def test_more_than_one_batch_is_still_one_transaction(lineage, dump):
    run = nodes.node("Run", "run:x", kind="train")
    facts = edges.Facts()
    facts.add(run)
    for number in range(1_201):
        series = facts.add(nodes.metric_series(run, None, name=f"loss-{number:04}", split="train", last=float(number)))
        facts.link(edges.was_generated_by(series, run))
    await lineage.write([facts.bundle()])
    found, links = await dump()
    assert (len(found), len(links)) == (1_202, 1_201)
    last = nodes.metric_series(run, None, name="loss-1200", split="train", last=7.0)
    with pytest.raises(ConflictingFact):
        await lineage.write([LineageRecorded(nodes=(nodes.config({"lost": True}), last))])
    assert await dump() == (found, links)
