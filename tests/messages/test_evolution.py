"""A published type may gain optional fields, and that is all: whatever else changes is a new type, ``.v2``.

What agents send may also be taken more widely than before, such as a new kind of job or a higher limit.
"""

from __future__ import annotations

import copy
import functools
import json
import operator
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from nvp_agentkit.messages.envelope import TYPE_OF
from nvp_agentkit.messages.schema import documents
from nvp_agentkit.streams import asyncapi

Schema = dict[str, Any]
Difference = tuple[str, str]

RELEASED: dict[str, Schema] = {
    path.name: json.loads(path.read_text()) for path in Path(__file__).with_name("released").glob("*.json")
}
PUBLISHED = documents()
SCHEMAS = sorted(RELEASED.keys() - {asyncapi.FILE})
ASKED = {f"{TYPE_OF[kind]}.json" for kind in asyncapi.REQUESTS}

SAYS_NOTHING = {"$id", "$schema", "$defs", "title", "description", "examples", "discriminator"}
LOW = {"minimum", "exclusiveMinimum", "minLength", "minItems", "minProperties"}
HIGH = {"maximum", "exclusiveMaximum", "maxLength", "maxItems", "maxProperties"}
EITHER = ("anyOf", "oneOf")
STRUCTURE = {"properties", "required", "enum", "const", "type", "items", "additionalProperties", *EITHER}
TIGHTER, WIDER, OTHER = "tighter", "wider", "other"


def breaks(old: Schema, new: Schema, *, asked: bool) -> list[str]:
    """What of ``new`` would hurt somebody who relies on ``old``; ``asked``: agents write it and workers read it."""
    return [what for how, what in differences(resolved(old), resolved(new), "") if not (asked and how == WIDER)]


def resolved(schema: Schema) -> Schema:
    """The schema without references, so that what is compared is what they mean."""

    def resolve(node: Any) -> Any:
        if isinstance(node, list):
            return [resolve(one) for one in node]
        if not isinstance(node, dict):
            return node
        if "$ref" in node:
            return resolve(schema["$defs"][node["$ref"].rpartition("/")[2]])
        return {name: resolve(value) for name, value in node.items() if name != "$defs"}

    found: Schema = resolve(schema)
    return found


def differences(old: Schema, new: Schema, at: str) -> Iterator[Difference]:
    yield from _fields(old, new, at)
    yield from _values(old, new, at)
    yield from _alternatives(old, new, at)
    for name in (old.keys() | new.keys()) - STRUCTURE - SAYS_NOTHING:
        if name in LOW | HIGH:
            yield from _limit(name, old.get(name), new.get(name), at)
        elif old.get(name) != new.get(name):
            yield OTHER, f"{at}: {name} was {old.get(name)!r} and is {new.get(name)!r}"


def _fields(old: Schema, new: Schema, at: str) -> Iterator[Difference]:
    was, now = old.get("properties", {}), new.get("properties", {})
    for name in was:
        if name in now:
            yield from differences(was[name], now[name], f"{at}.{name}")
        else:
            yield OTHER, f"{at}.{name} is gone"
    needed, needs = set(old.get("required", ())), set(new.get("required", ()))
    yield from ((TIGHTER, f"{at}.{name} is required now") for name in needs - needed)
    yield from ((WIDER, f"{at}.{name} is no longer certain") for name in (needed - needs) & now.keys())
    for part in ("items", "additionalProperties"):
        yield from _part(old.get(part, True), new.get(part, True), f"{at}.{part}")


def _part(old: Schema | bool, new: Schema | bool, at: str) -> Iterator[Difference]:
    if isinstance(old, dict) and isinstance(new, dict):
        yield from differences(old, new, at)
    elif old != new:
        yield (WIDER if new is True or old is False else TIGHTER), f"{at} was {old!r} and is {new!r}"


def _values(old: Schema, new: Schema, at: str) -> Iterator[Difference]:
    for what, of in (("type", _types), ("value", _choices)):
        was, now = of(old), of(new)
        if was is not None and (now is None or now - was):
            yield WIDER, f"{at}: {what} may be other than {sorted(was)}"
        if now is not None and (was is None or was - now):
            yield TIGHTER, f"{at}: {what} must be of {sorted(now)}"


def _types(schema: Schema) -> set[str] | None:
    said = schema.get("type")
    if said is None:
        return None
    return {said} if isinstance(said, str) else set(said)


def _choices(schema: Schema) -> set[str] | None:
    said = schema.get("enum", [schema["const"]] if "const" in schema else None)
    return None if said is None else {json.dumps(one) for one in said}


def _limit(name: str, was: float | None, now: float | None, at: str) -> Iterator[Difference]:
    if was == now:
        return
    tighter = was is None if was is None or now is None else (now > was) == (name in LOW)
    yield (TIGHTER if tighter else WIDER), f"{at}: {name} was {was} and is {now}"


def _alternatives(old: Schema, new: Schema, at: str) -> Iterator[Difference]:
    """Each alternative is held against the new one that it differs least from."""
    was, now = ([one for name in EITHER for one in schema.get(name, ())] for schema in (old, new))
    if not was or not now:
        if was != now:
            yield OTHER, f"{at}: there were {len(was)} alternatives and are {len(now)}"
        return
    taken = set()
    for number, one in enumerate(was):
        ways = [list(differences(one, other, f"{at}|{number}")) for other in now]
        best = min(range(len(now)), key=lambda index: len(ways[index]))
        taken.add(best)
        yield from ways[best]
    if len(now) > len(taken):
        yield WIDER, f"{at}: {len(now) - len(taken)} alternatives more"


@pytest.mark.parametrize("name", SCHEMAS)
def test_what_is_released_still_holds(name: str) -> None:
    assert name in PUBLISHED, "a released type stays"
    assert breaks(RELEASED[name], json.loads(PUBLISHED[name]), asked=name in ASKED) == [], "make it a .v2"


def test_streams_are_where_they_were_and_carry_what_they_did() -> None:
    was, now = RELEASED[asyncapi.FILE], json.loads(asyncapi.document())
    for name, channel in was["channels"].items():
        assert now["channels"][name]["address"] == channel["address"]
        assert channel["messages"].keys() <= now["channels"][name]["messages"].keys()
    for name, operation in was["operations"].items():
        assert now["operations"][name]["channel"] == operation["channel"]
        assert now["operations"][name]["action"] == operation["action"]


def nodes(node: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Where in a document there are schemas."""
    yield path
    for part in ("properties", "$defs"):
        for name, one in node.get(part, {}).items():
            yield from nodes(one, (*path, part, name))
    for part in EITHER:
        for number, one in enumerate(node.get(part, ())):
            yield from nodes(one, (*path, part, number))
    for part in ("items", "additionalProperties"):
        if isinstance(node.get(part), dict):
            yield from nodes(node[part], (*path, part))


def field(node: Schema, *, optional: bool) -> str:
    required = node.get("required", ())
    return next(name for name in node["properties"] if (name not in required) == optional)


def lose(node: Schema, name: str) -> None:
    del node["properties"][name]
    node["required"] = [one for one in node.get("required", ()) if one != name]


def gain(node: Schema, *, required: bool) -> None:
    node["properties"]["more"] = {"type": "string"}
    node["required"] = [*node.get("required", ()), *["more"] * required]


def move(name: str, by: int) -> Callable[[Schema], object]:
    return lambda node: node.update({name: node[name] + by})


# What may be done to a schema -> does it break what agents (ask, are told)? A change that does not apply raises.
CHANGES: dict[str, tuple[Callable[[Schema], object], tuple[bool, bool]]] = {
    "other words": (lambda node: node.update(description=node["description"] + " Indeed."), (False, False)),
    "an optional field more": (lambda node: gain(node, required=False), (False, False)),
    "a required field more": (lambda node: gain(node, required=True), (True, True)),
    "an optional field is lost": (lambda node: lose(node, field(node, optional=True)), (True, True)),
    "a required field is lost": (lambda node: lose(node, field(node, optional=False)), (True, True)),
    "an optional field becomes required": (
        lambda node: node.update(required=[*node.get("required", ()), field(node, optional=True)]), (True, True)),
    "a required field becomes optional": (lambda node: node["required"].pop(), (False, True)),
    "a higher minimum": (move("minimum", 1), (True, True)),
    "a lower minimum": (move("minimum", -1), (False, True)),
    "a higher maximum": (move("maximum", 1), (False, True)),
    "a lower maximum": (move("maximum", -1), (True, True)),
    "no maximum": (lambda node: node.pop("maximum"), (False, True)),
    "a first maximum": (lambda node: node.update(maximum=node["minimum"] + 1), (True, True)),
    "a longer text": (move("maxLength", 1), (False, True)),
    "a shorter text": (move("maxLength", -1), (True, True)),
    "fewer items": (move("maxItems", -1), (True, True)),
    "another pattern": (lambda node: node.update(pattern=node["pattern"] + "?"), (True, True)),
    "another type": (lambda node: node.update(type={"string": "array"}.get(node["type"], "string")), (True, True)),
    "another constant": (lambda node: node.update(const=node["const"] + "s"), (True, True)),
    "another default": (lambda node: node.update(default=[node["default"]]), (True, True)),
    "one choice less": (lambda node: node["enum"].pop(), (True, True)),
    "one choice more": (lambda node: node["enum"].append("another"), (False, True)),
    "one alternative less": (lambda node: node["anyOf"].pop(), (True, True)),
    "one alternative more": (lambda node: node["anyOf"].append({"type": "array"}), (False, True)),
    "one kind of job more": (lambda node: node["oneOf"].append({"type": "object"}), (False, True)),
    "other items": (lambda node: node.update(items={"type": node["items"]["type"] + "s"}), (True, True)),
}  # fmt: skip


# Between them these have every keyword that is used.
VARIED = [f"nvp.{one}.v1.json" for one in ("prediction.requested", "job.requested", "job.failed", "lineage.recorded")]


def changed(change: Callable[[Schema], object]) -> Iterator[tuple[str, Schema, Schema]]:
    """Released schemas with ``change`` in each place where it applies, one at a time."""
    for name in VARIED:
        for path in nodes(RELEASED[name]):
            new = copy.deepcopy(RELEASED[name])
            try:
                change(functools.reduce(operator.getitem, path, new))
            except (LookupError, TypeError, StopIteration):
                continue
            yield f"{name}: {path}", RELEASED[name], new


@pytest.mark.parametrize("what", CHANGES)
def test_each_kind_of_change_is_seen_for_what_it_is_wherever_it_happens(what: str) -> None:
    change, expected = CHANGES[what]
    tried = list(changed(change))
    assert tried
    for where, old, new in tried:
        assert (bool(breaks(old, new, asked=True)), bool(breaks(old, new, asked=False))) == expected, where


def test_a_definition_may_have_another_name() -> None:
    old = RELEASED["nvp.prediction.completed.v1.json"]
    assert breaks(old, json.loads(json.dumps(old).replace("ArrayRef", "Field")), asked=False) == []
