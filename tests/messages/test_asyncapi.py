"""The streams as others read of them: the AsyncAPI document is the code's, valid, and true of what we send."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft202012Validator
from referencing import Registry, Resource

from nvp_agentkit.embedded.accounts_acl import WRITABLE
from nvp_agentkit.messages import TYPES, Payload, new_event
from nvp_agentkit.messages.envelope import TYPE_OF
from nvp_agentkit.streams import asyncapi, names

PUBLISHED = Path(__file__).resolve().parents[2] / "schemas"
NODE = Path(__file__).with_name("node")
pytestmark = pytest.mark.xdist_group("tests/messages/node")  # one process installs there
DOCUMENT: dict[str, Any] = json.loads(asyncapi.document())

MISTAKES = {
    "an operation nobody knows": ('"action": "send"', '"action": "shout"'),
    "a schema that is not there": ("./nvp.job.failed.v1.json", "./nvp.job.fated.v1.json"),
}


@pytest.fixture(scope="session")
def found(node_packages: Callable[[Path], None], tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """What the official AsyncAPI parser finds wrong in the published document, and in it with each mistake."""
    node_packages(NODE)
    folder = tmp_path_factory.mktemp("asyncapi")
    for path in PUBLISHED.glob("*.json"):
        shutil.copy(path, folder)
    files = {"nothing": folder / asyncapi.FILE}
    for number, (what, (right, mistake)) in enumerate(MISTAKES.items()):
        files[what] = folder / f"{number}.json"
        files[what].write_text(asyncapi.document().replace(right, mistake))
    done = subprocess.run(
        ["node", NODE / "asyncapi.mjs", *files.values()], capture_output=True, text=True, check=False, timeout=120
    )
    assert done.stderr == ""
    lines = done.stdout.splitlines()
    return {what: "\n".join(line for line in lines if line.startswith(f"{path}:")) for what, path in files.items()}


def at(reference: str) -> Any:
    """What a reference within the document leads to."""
    found = DOCUMENT
    for step in reference.removeprefix("#/").split("/"):
        found = found[step]
    return found


def follow(reference: dict[str, str]) -> Any:
    """The same, through references to references."""
    found = reference
    while "$ref" in found:
        found = at(found["$ref"])
    return found


def test_the_published_document_equals_the_code() -> None:
    assert (PUBLISHED / asyncapi.FILE).read_text() == asyncapi.document(), "write it anew: make schemas"


@pytest.mark.timeout(300)  # the first time its packages are installed
def test_the_official_parser_finds_nothing_wrong_and_would_find_a_mistake(found: dict[str, str]) -> None:
    assert found.pop("nothing") == ""
    assert [what for what in MISTAKES if not found[what]] == []


def test_an_agent_may_send_where_its_user_may_write_and_nowhere_else() -> None:
    sends = {follow(one["channel"])["address"] for one in DOCUMENT["operations"].values() if one["action"] == "send"}
    assert sends == {pattern.format("account") for pattern in WRITABLE}


def test_an_address_is_the_key_once_the_account_comes_in_its_braces() -> None:
    channels = DOCUMENT["channels"]
    (example,) = channels["job"]["parameters"]["account"]["examples"]
    for name, channel in channels.items():
        suffix = "job:1" if name == "job" else name
        assert channel["address"].replace("{account}", example).replace("{job}", "1") == names.key("ace-1", suffix)
    lasting = {name for name in channels if name != "job"}
    assert lasting == {*names.GROUPS, "replies"}


def test_every_type_passes_on_some_channel_and_every_answer_is_of_some_operation() -> None:
    carried = {follow(one)["name"] for channel in DOCUMENT["channels"].values() for one in channel["messages"].values()}
    assert carried == set(TYPES)
    replies = [operation["reply"] for operation in DOCUMENT["operations"].values() if "reply" in operation]
    assert {one["$ref"] for reply in replies for one in reply["messages"]} == {
        f"#/channels/replies/messages/{name}" for name in DOCUMENT["channels"]["replies"]["messages"]
    }


def test_an_event_of_each_type_is_the_message_that_is_described(payload: Payload) -> None:
    read = Registry(retrieve=lambda name: Resource.from_contents(json.loads((PUBLISHED / name).read_text())))
    described = DOCUMENT["components"]["messages"][type(payload).__name__]["payload"]["schema"]
    (kind,) = [name for name in TYPES if TYPES[name] is type(payload)]
    schema = Draft202012Validator(described, registry=read)
    asked = {"budget_mj": 5} if type(payload) in asyncapi.REQUESTS else {}
    answered = {"replyto": "request-1"} if type(payload) in asyncapi.ANSWERS else {}
    event = json.loads(new_event(payload, source="nvp:test", **asked, **answered).encode())
    schema.validate(event)
    assert event["type"] == kind == TYPE_OF[type(payload)]
    for attribute in ("budgetmj",) * bool(asked) + ("replyto",) * bool(answered):
        assert not schema.is_valid({name: value for name, value in event.items() if name != attribute})
    assert not schema.is_valid(event | {"type": "nvp.job.requested.v9"})
    assert not schema.is_valid(event | {"data": {"invented": 1}})
