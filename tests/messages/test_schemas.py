"""The published contract is the code's: ``make schemas`` writes it, these tests compare."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft202012Validator, ValidationError

from nvp_agentkit.messages import TYPES, Payload, new_event
from nvp_agentkit.messages.schema import SCHEMAS, documents
from nvp_agentkit.streams import asyncapi

PUBLISHED = Path(__file__).resolve().parents[2] / "schemas"


def published(name: str) -> dict[str, Any]:
    schema: dict[str, Any] = json.loads((PUBLISHED / name).read_text())
    return schema


@pytest.mark.parametrize("name", sorted(documents()))
def test_a_published_schema_equals_the_code(name: str) -> None:
    assert (PUBLISHED / name).read_text() == documents()[name], "write them anew: make schemas"


def test_nothing_else_is_published() -> None:
    assert {path.name for path in PUBLISHED.glob("*.json")} == {*documents(), asyncapi.FILE}
    assert SCHEMAS.samefile(PUBLISHED)


def test_every_type_has_an_example(payloads: tuple[Payload, ...]) -> None:
    assert {type(payload) for payload in payloads} == set(TYPES.values())


def test_what_we_write_fits_what_we_publish(payload: Payload) -> None:
    event = json.loads(new_event(payload, source="nvp:test", budget_mj=5).encode())
    Draft202012Validator(published("cloudevent.json")).validate(event)
    schema = Draft202012Validator(published(f"{event['type']}.json"))
    schema.check_schema(schema.schema)
    schema.validate(event["data"])
    with pytest.raises(ValidationError, match="invented"):
        schema.validate(event["data"] | {"invented": 1})


def test_an_event_names_its_schema(payload: Payload) -> None:
    event = new_event(payload, source="nvp:test")
    assert event.dataschema == published(f"{event.type}.json")["$id"]
