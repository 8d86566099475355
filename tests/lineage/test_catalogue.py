"""The atlas as the graph knows it."""

from __future__ import annotations

import pytest

from nvp_agentkit.errors import InvalidInput, UnknownName
from nvp_agentkit.lineage import catalogue, edges, nodes
from nvp_agentkit.messages import ImportSpec, JoinSpec, LineageRecorded, SimulateSpec

from .conftest import a_reading, a_ref


def made(letter: str, spec, *, ended_ms: int, mj: int = 1000, sources: str = "", version: str = "1") -> LineageRecorded:
    """A job that made dataset ``letter``."""
    facts = edges.Facts()
    data = facts.add(nodes.dataset_version(a_ref(letter), domain=spec.domain, units="J", shape=(4, 5, 16, 16),
                                           dt_s=0.5, dx_m=2.0))
    run = facts.add(nodes.run("ace-1", f"job-{letter}-{ended_ms}", attempt=1, kind=spec.kind, started_ms=1,
                              ended_ms=ended_ms, outcome="completed"))
    spent = facts.add(nodes.energy_reading(run, a_reading(mj), phase=spec.kind))
    facts.link(edges.was_generated_by(data, run), edges.metered(run, spent),
               edges.used(run, facts.add(nodes.asked(spec))), edges.used(run, facts.add(nodes.code_version(version))))
    for source in sources:
        part = facts.add(nodes.dataset_version(a_ref(source)))
        facts.link(edges.used(run, part), edges.was_derived_from(data, part))
    return facts.bundle()


SHARDS = [SimulateSpec(domain="heat", trajectories=4, seed=seed) for seed in (0, 1)]
JOIN = JoinSpec(domain="heat", parts=(a_ref("a"), a_ref("b")))
FILE = ImportSpec(domain="rain", source=a_ref("e"), filename="rain.nc", units="mm/h")


@pytest.fixture
async def atlas(lineage):
    """Two shards and what they were joined into, and a file that was imported twice."""
    await lineage.write([
        made("a", SHARDS[0], ended_ms=1), made("b", SHARDS[1], ended_ms=2),
        made("c", JOIN, ended_ms=3, sources="ab"),
        made("d", FILE, ended_ms=4, mj=7000), made("d", FILE, ended_ms=9, mj=5000),
    ])
    return lineage


async def test_each_dataset_is_listed_once_by_its_newest_run_with_its_joules(atlas) -> None:
    found = await catalogue.entries(atlas)
    assert [(one.ref.digest[7], one.run["kind"], one.mj) for one in found] == [
        ("d", "import", 5000), ("c", "join", 3000), ("b", "simulate", 1000), ("a", "simulate", 1000)
    ]
    assert (found[0].dataset["dt_s"], found[0].dataset["dx_m"], found[0].method) == (0.5, 2.0, "modelled")
    whole = nodes.dataset_version(a_ref("c")).id
    assert [one.part_of for one in found] == [(), (), (whole,), (whole,)]
    assert found[1].ref.bytes == a_ref("c").bytes


@pytest.mark.parametrize("name", ["heat", "cccc", "dataset:sha256:cccccc", f"sha256:{'c' * 64}"])
async def test_a_dataset_is_called_by_its_domain_or_the_beginning_of_its_digest(atlas, name: str) -> None:
    assert (await catalogue.find(atlas, name)).ref == a_ref("c").model_copy(
        update={"media_type": catalogue.SAFETENSORS})


async def test_what_is_not_there_is_refused_naming_what_is(atlas) -> None:
    with pytest.raises(UnknownName, match="no dataset 'snow' in the atlas; there are of heat, rain"):
        await catalogue.find(atlas, "snow")
    with pytest.raises(UnknownName, match="there are of heat, rain"):
        await catalogue.find(atlas, "e" * 64)  # the file itself is no dataset


async def test_too_little_of_a_digest_is_refused(atlas) -> None:
    near = FILE.model_copy(update={"domain": "snow"})
    bundle = made("c", near, ended_ms=5)
    digest = "sha256:" + "c" * 63 + "0"
    await atlas.write([LineageRecorded.model_validate_json(
        bundle.model_dump_json().replace(a_ref("c").digest, digest))])
    with pytest.raises(InvalidInput, match="2 datasets begin with 'cccc'"):
        await catalogue.find(atlas, "cccc")


async def test_what_was_made_once_is_found_by_who_asks_for_just_that(atlas) -> None:
    assert [(await catalogue.made(atlas, spec, version="1")).digest[7] for spec in (*SHARDS, JOIN)] == ["a", "b", "c"]
    other = SHARDS[0].model_copy(update={"frames": 40})
    assert await catalogue.made(atlas, other, version="1") is None
    assert await catalogue.made(atlas, SHARDS[0], version="2") is None, "other code makes other data"


def test_a_choice_that_nobody_made_changes_no_request() -> None:
    # Ids of what was made before there were variants.
    assert "variant" not in nodes.asked(SHARDS[0]).properties["json"]
    chosen = SHARDS[0].model_copy(update={"variant": "forced"})
    assert nodes.asked(chosen).id != nodes.asked(SHARDS[0]).id


async def test_how_a_dataset_looks_is_told_by_the_newest_run_that_looked(atlas) -> None:
    def looked(ended_ms: int, mean: float, letter: str) -> LineageRecorded:
        facts = edges.Facts()
        run = nodes.run("ace-1", f"job-d-{ended_ms}", attempt=1, kind="import", started_ms=1, ended_ms=ended_ms,
                        outcome="completed")
        for series in (
            nodes.metric_series(run, None, name="mean", split=nodes.WHOLE, last=mean),
            nodes.metric_series(run, None, name="descriptor", split=nodes.WHOLE, last=0.5, n=64, ref=a_ref(letter)),
        ):
            facts.link(edges.was_generated_by(facts.add(series), run))
        return facts.bundle()

    await atlas.write([looked(9, 2.5, "8"), looked(4, 2.0, "7")])
    found = await catalogue.looks(atlas, await catalogue.find(atlas, "rain"))
    assert {name: one["last"] for name, one in found.items()} == {"mean": 2.5, "descriptor": 0.5}
    known = await catalogue.descriptors(atlas)
    assert {id: one["uri"] for id, one in known.items()} == {nodes.dataset_version(a_ref("d")).id: a_ref("8").uri}
