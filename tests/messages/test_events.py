"""Events come back as they went; readers ignore the unknown, writers invent nothing, garbage has one error."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any

import pydantic
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nvp_agentkit.errors import InvalidMessage
from nvp_agentkit.messages import Event, JobRequested, Payload, SimulateSpec, decode, new_event, reply_id
from nvp_agentkit.messages.envelope import MAX_EVENT_BYTES

JOB = JobRequested(spec=SimulateSpec(domain="plasma_physics"))
NAIVE = "2026-01-31T12:00:00"


def altered(**changes: Any) -> bytes:
    """A good event as bytes, some of its attributes replaced."""
    event = json.loads(new_event(JOB, source="nvp:test", budget_mj=5).encode())
    return json.dumps(event | changes).encode()


def test_an_event_comes_back_as_it_went(payload: Payload) -> None:
    event = new_event(payload, source="nvp:test", subject="plasma_physics", budget_mj=5, deadline=datetime.now(UTC))
    assert decode(event.encode()) == event
    assert decode(event.encode()).payload == payload


def test_readers_ignore_what_they_do_not_know() -> None:
    data = JOB.model_dump() | {"since_v2": [1, 2]}
    data["spec"]["also_since_v2"] = {"a": None}
    assert decode(altered(data=data, sinceversion2="x")).payload == JOB


def test_writers_may_not_invent_fields() -> None:
    with pytest.raises(pydantic.ValidationError, match="invented"):
        SimulateSpec(domain="plasma_physics", invented=1)  # type: ignore[call-arg]
    with pytest.raises(pydantic.ValidationError, match="invented"):
        Event(id="1", source="s", type="t", time=datetime.now(UTC), data={}, invented=1)  # type: ignore[call-arg]


@pytest.mark.parametrize("attribute", ["deadline", "time"])
def test_a_time_without_a_zone_is_refused(attribute: str) -> None:
    with pytest.raises(InvalidMessage, match=rf"{attribute}: .*{NAIVE} has no time zone; write it as RFC 3339"):
        decode(altered(**{attribute: NAIVE}))


def test_a_writer_is_told_as_well() -> None:
    with pytest.raises(pydantic.ValidationError, match="has no time zone"):
        new_event(JOB, source="nvp:test", deadline=datetime.fromisoformat(NAIVE))


def test_an_event_that_is_too_large_is_refused_unread() -> None:
    with pytest.raises(InvalidMessage, match=r"4194305 bytes, limit 4194304; send arrays by reference"):
        decode(b" " * (MAX_EVENT_BYTES + 1))


def test_an_unknown_type_is_refused_naming_the_known() -> None:
    event = decode(altered(type="nvp.job.requested.v9"))
    with pytest.raises(InvalidMessage, match=r"'nvp\.job\.requested\.v9'; known: .*nvp\.job\.requested\.v1"):
        _ = event.payload


@pytest.mark.parametrize(
    ("raw", "why"),
    [
        (b"", "Invalid JSON"),
        (b"\xff\xfe\x00", "Invalid JSON"),
        (b"null", "object"),
        (b"[" * 1_000_000, "recursion limit"),
        (altered(id="1").replace(b'"1"', b"1" * 5000), "id"),
        (altered(specversion="0.3"), "specversion"),
        (altered(id=""), "id"),
        (altered(id="x" * 129), "id"),
        (altered(data="not an object"), "data"),
        (altered(datacontenttype="text/xml"), "datacontenttype"),
        (altered(budgetmj="0"), "budgetmj"),
        (altered(budgetmj="-5"), "budgetmj"),
        (altered(budgetmj="1e3"), "budgetmj"),
        (altered(budgetmj=5), "budgetmj"),
        (altered(budgetmj="9" * 17), "budgetmj"),
    ],
    ids=range(15),
)
def test_what_is_no_event_is_refused(raw: bytes, why: str) -> None:
    with pytest.raises(InvalidMessage, match=why):
        decode(raw)


@given(st.one_of(st.binary(max_size=200), st.text(max_size=200)))
def test_garbage_has_one_error(raw: bytes | str) -> None:
    with pytest.raises(InvalidMessage):
        decode(raw)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=6,
)
ATTRIBUTES = st.sampled_from(sorted(Event.model_fields))
SPEC_FIELDS = st.sampled_from(["kind", "domain", "trajectories", "frames", "size", "seed"])


@given(st.dictionaries(ATTRIBUTES, JSON, max_size=3), st.dictionaries(SPEC_FIELDS, JSON, max_size=3))
def test_nearly_an_event_is_one_or_has_one_error(changes: dict[str, Any], spec: dict[str, Any]) -> None:
    data = {"spec": JOB.spec.model_dump() | spec}
    try:
        event = decode(altered(**({"data": data} | changes)))
        payload = event.payload
    except InvalidMessage:
        return
    assert decode(new_event(payload, source="nvp:test").encode()).payload == payload


def test_an_answer_has_the_same_id_each_time_it_is_given() -> None:
    assert reply_id("request-1", "nvp.vote.cast.v1") == reply_id("request-1", "nvp.vote.cast.v1")
    assert reply_id("request-1", "nvp.vote.cast.v1") != reply_id("request-2", "nvp.vote.cast.v1")
    assert new_event(JOB, source="a").id != new_event(JOB, source="a").id
