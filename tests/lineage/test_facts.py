"""Facts are checked where they are made, and have one id however often they are made."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nvp_agentkit.errors import InvalidMessage, UnknownName
from nvp_agentkit.lineage import edges, nodes
from nvp_agentkit.lineage.vocabulary import EDGES, LABELS, check_edge, checked_properties
from nvp_agentkit.messages import EdgeFact, LineageRecorded, NodeFact, ObjectRef, Reading

REF = ObjectRef(uri="artifact:sha256/ab", digest="sha256:" + "ab" * 32, bytes=1)
JSON = st.recursive(st.none() | st.booleans() | st.integers() | st.text(max_size=8),
                    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3))


@given(st.dictionaries(st.text(max_size=5), JSON, max_size=5))
def test_the_order_of_keys_does_not_change_an_id(content):
    assert nodes.content_id("config", content) == nodes.content_id("config", dict(reversed(content.items())))


def test_a_model_is_named_by_the_digest_of_its_bytes():
    assert nodes.model_version(REF).id == f"model:{REF.digest}"


def test_what_differs_in_content_differs_in_id():
    train = nodes.config({"steps": 10}, seed=1)
    assert len({train.id, nodes.config({"steps": 11}, seed=1).id, nodes.config({"steps": 10}, seed=2).id}) == 3


def test_two_accounts_may_use_one_request_id():
    assert nodes.decision_id("ace-1", "r") != nodes.decision_id("ace-2", "r")


def test_an_account_named_like_a_voter_is_not_that_voter():
    assert nodes.agent("voter-1", "ace").id != nodes.agent("voter-1", "shadow").id


def test_configuration_with_nan_has_no_canonical_form():
    with pytest.raises(ValueError, match="not JSON compliant"):
        nodes.config({"rate": float("nan")})


@pytest.mark.parametrize(("label", "properties", "text"), [
    ("Nonsense", {}, "unknown label 'Nonsense'"),
    ("Run", {"colour": "red"}, "Run has no property 'colour'"),
    ("Run", {"kind": "x"} | {"n.x = 1 //": 1}, "has no property"),
    ("Run", {"attempt": "1"}, "Run.attempt must be an integer"),
    ("Run", {"attempt": True}, "Run.attempt must be an integer"),
    ("Run", {"started_ms": 2**63}, "of 64 bits"),
    ("Run", {"kind": "k" * 257}, "at most 256 characters"),
    ("Config", {"json": "j" * 70_000}, "at most 65536 characters"),
    ("CodeVersion", {"dirty": 1}, "must be true or false"),
    ("ModelVersion", {"digest": "sha256:short"}, "ModelVersion.digest must be sha256"),
    ("DatasetVersion", {"shape": [1, 2.5]}, "a list of integers"),
    ("MetricSeries", {"last": float("inf")}, "a finite number"),
])
def test_a_fact_outside_the_vocabulary_is_refused_by_name(label, properties, text):
    with pytest.raises(InvalidMessage, match=text):
        checked_properties(NodeFact(label=label, id="x", properties=properties))


def test_a_null_is_no_property_and_a_whole_number_is_a_number():
    series = NodeFact(label="MetricSeries", id="m", properties={"last": 1, "best": None})
    assert checked_properties(series) == {"last": 1.0}
    assert isinstance(checked_properties(series)["last"], float)


@pytest.mark.parametrize(("fact", "text"), [
    (("LIKES", "Run", "a", "Config", "b"), "unknown relationship 'LIKES'"),
    (("USED", "Config", "a", "Run", "b"), "it leads from Run to"),
    (("USED", "Run", "", "Config", "b"), "both ends need an id"),
])
def test_a_relationship_outside_the_vocabulary_is_refused(fact, text):
    kind, from_label, from_id, to_label, to_id = fact
    with pytest.raises(InvalidMessage, match=text):
        check_edge(EdgeFact(type=kind, from_label=from_label, from_id=from_id, to_label=to_label, to_id=to_id))


def test_every_end_of_a_relationship_is_a_label():
    assert set().union(*(ends for pair in EDGES.values() for ends in pair)) <= set(LABELS)


def test_facts_survive_the_wire(history):
    bundles = history.bundles()
    assert [LineageRecorded.model_validate_json(bundle.model_dump_json()) for bundle in bundles] == bundles


def test_a_reading_keeps_its_bounds_and_method():
    reading = Reading(mj=10, lo_mj=4, hi_mj=25, method="modelled", sensor="cpu-time", cpu_ms=3)
    properties = nodes.energy_reading(nodes.node("Run", "run:x"), reading, phase="train").properties
    assert {name: properties[name] for name in reading.model_dump()} == reading.model_dump()


def test_an_id_tells_its_label():
    assert nodes.label_of("model:sha256:ab") == "ModelVersion"
    assert set(nodes.KINDS.values()) | {"Agent", "EnergyAccount"} == set(LABELS)
    with pytest.raises(UnknownName, match="is no id of the lineage graph"):
        nodes.label_of("ace-1")


def test_a_builder_refuses_a_relationship_the_wrong_way_round():
    with pytest.raises(InvalidMessage, match="is not in the vocabulary"):
        edges.used(nodes.config({}), nodes.node("Run", "run:x"))
