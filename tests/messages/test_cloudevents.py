"""Our events are CloudEvents to others too: the official SDKs for Python and JavaScript read and write every type."""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cloudevents.core.formats.json import JSONFormat
from cloudevents.core.v1.event import CloudEvent

from nvp_agentkit.messages import Event, Payload, decode, new_event
from nvp_agentkit.messages.schema import documents

NODE = Path(__file__).with_name("node")
pytestmark = pytest.mark.xdist_group("tests/messages/node")  # one process installs there
RFC_3339 = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?(Z|[+-]\d\d:\d\d)")


def full(payload: Payload) -> Event:
    """An event with every attribute set."""
    return new_event(
        payload, source="nvp:agent:ace-1", subject="plasma_physics", replyto="request-1", budget_mj=5,
        deadline=datetime.now(UTC) + timedelta(seconds=60), traceparent="00-" + "1" * 32 + "-" + "2" * 16 + "-01",
    )  # fmt: skip


def test_the_sdk_for_python_reads_and_writes_what_we_do(payload: Payload) -> None:
    event = full(payload)
    theirs = JSONFormat().read(None, event.encode())
    assert isinstance(theirs, CloudEvent)
    assert (theirs.get_type(), theirs.get_source(), theirs.get_id()) == (event.type, event.source, event.id)
    assert theirs.get_time() == event.time
    assert theirs.get_extension("budgetmj") == "5"
    assert decode(JSONFormat().write(theirs)) == event


def test_an_event_made_by_the_sdk_for_python_is_read(payload: Payload) -> None:
    attributes = {"type": new_event(payload, source="x").type, "source": "elsewhere"}
    theirs = CloudEvent(attributes | {"datacontenttype": "application/json"}, payload.model_dump(mode="json"))
    event = decode(JSONFormat().write(theirs))
    assert event.payload == payload
    assert event.budget_mj is None


@pytest.mark.timeout(300)  # the first time its packages are installed
def test_the_sdk_for_javascript_reads_and_writes_what_we_do(
    payloads: tuple[Payload, ...], node_packages: Callable[[Path], None]
) -> None:
    node_packages(NODE)
    events = [full(payload) for payload in payloads]
    done = subprocess.run(
        ["node", NODE / "cloudevents.mjs"],
        input=b"\n".join(event.encode() for event in events), capture_output=True, check=False, timeout=60,
    )  # fmt: skip
    assert done.stderr == b""
    back = [decode(line) for line in done.stdout.splitlines()]
    assert [whole_ms(event) for event in back] == [whole_ms(event) for event in events]


def whole_ms(event: Event) -> Event:
    """JavaScript's clock counts milliseconds."""
    time = event.time.replace(microsecond=event.time.microsecond // 1000 * 1000)
    return event.model_copy(update={"time": time})


def test_attributes_have_names_that_every_transport_can_carry() -> None:
    names = json.loads(documents()["cloudevent.json"])["properties"]
    assert [name for name in names if not re.fullmatch(r"[a-z0-9]{1,20}", name)] == []


def test_what_we_write_has_an_id_a_source_and_times_as_rfc_3339_has_them(payload: Payload) -> None:
    first, second = (json.loads(new_event(payload, source="nvp:agent:ace-1").encode()) for _ in range(2))
    assert first["id"] != second["id"]
    attributes = json.loads(full(payload).encode())
    assert RFC_3339.fullmatch(attributes["time"])
    assert RFC_3339.fullmatch(attributes["deadline"])
    assert re.fullmatch(r"[a-z][a-z0-9+.-]*:\S+", attributes["source"])
    assert re.fullmatch(r"[a-z][a-z0-9+.-]*:\S+", attributes["dataschema"])
