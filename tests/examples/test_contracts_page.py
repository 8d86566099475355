"""docs/contracts.md is true: its program runs, its tables name what there is."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from cloudevents.core.formats.json import JSONFormat

from nvp_agentkit import errors
from nvp_agentkit.messages import Event
from nvp_agentkit.streams import asyncapi, names
from nvp_agentkit.workers.joules import REFUSALS

pytestmark = pytest.mark.xdist_group("tests/examples")  # one stack

PAGE = (Path(__file__).resolve().parents[2] / "docs" / "contracts.md").read_text()
(PROGRAM,) = re.findall(r"^```python\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)


def table(first: str) -> list[list[str]]:
    """The words in code quotes of each row's first cell, in the table whose head begins with ``first``."""
    rows = re.search(rf"^\| {first} .*\n\|[-|]+\n((?:\|.*\n)+)", PAGE, re.MULTILINE)
    assert rows is not None
    return [re.findall(r"`([^`]+)`", row.split("|")[1]) for row in rows[1].splitlines()]


def test_the_program_is_answered(
    rich: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("NVP_REDIS_URL", rich)
    said: dict[str, object] = {}
    exec(compile(PROGRAM, "contracts.md", "exec"), said)
    said["streams"].close()
    assert re.fullmatch(r"nvp\.prediction\.completed\.v1 \d+ mJ\n", capsys.readouterr().out)
    assert said["reply"]["data"]["mean"]["inline"]
    theirs = JSONFormat().read(None, json.dumps(said["reply"]))
    assert theirs.get_extension("replyto") == said["request"]["id"]


def test_every_stream_is_named() -> None:
    told = {key for row in table("key") for key in row}
    described = {one["address"] for one in json.loads(asyncapi.document())["channels"].values()}
    hash_of_answers = names.answers("ace-1", "{request}")
    assert told == {address.replace("{account}", "{ace-1}") for address in described} | {hash_of_answers}


def test_every_attribute_is_one() -> None:
    assert {name for row in table("attribute") for name in row} <= Event.model_fields.keys()


def test_every_code_is_one() -> None:
    known = {one.code for one in vars(errors).values() if isinstance(one, type) and issubclass(one, errors.NvpError)}
    told = {code for row in table("code") for code in row}
    assert told <= known
    assert told >= {one.code for one in REFUSALS}
