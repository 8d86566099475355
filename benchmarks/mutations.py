"""Events as workers get them, of every type, and what a seed makes of them: bytes, fields, types, numbers, clocks, ids.

A mutated event is a stream (by its suffix) and the fields of an entry. The same seed and number of events give the same
ones, but for what tells the time.
"""

from __future__ import annotations

import json
import random
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from nvp_agentkit.messages import Event
from nvp_agentkit.streams import names

Tree = dict[str, Any]
Path = list[str | int]
Fields = dict[Any, Any]  # of bytes; redis-py asks for more

WITHIN_S = 60  # to the deadline of an event that has one
HOUR = timedelta(hours=1)
LEVELS = 1000
RECENT = 50  # ids that may come again
NUMBERS = (
    b"1e400", b"-1e308", b"9" * 400, b"9223372036854775808", b"-9223372036854775809", b"18446744073709551616", b"NaN",
    b"Infinity", b"-0", b"1e-400", b"2147483648", b"9007199254740993", b"-1",
)  # fmt: skip
OTHERS: tuple[Any, ...] = (None, True, 0, 1.5, "text", [], {}, ["text"], {"text": 1}, "1", "2026-01-01")
ODD = ("\ud800", "\x00", "\u202e", "\uffff", "../../etc/passwd", "{other}", "a" * 100_000, "*", "'; --", "\n\r")
DAYS = ("0001-01-01T00:00:00Z", "9999-12-31T23:59:59-23:59", "2026-02-30T00:00:00Z", "12:00", "1e9", "-1", "")


@dataclass(frozen=True)
class Mutated:
    """What to add to which stream, and what was done to it, in words."""

    suffix: str
    fields: Fields
    ways: tuple[str, ...]

    @property
    def id(self) -> str | None:
        """Of the event, where it can still be read and is text."""
        try:
            tree = json.loads(self.fields.get(b"event", b""))
            found = tree.get("id") if isinstance(tree, dict) else None
            return found if isinstance(found, str) and found.encode() else None
        except (ValueError, RecursionError):
            return None


class Mutator:
    """Makes one mutated event after the other; ``bases`` are pairs of the stream where an event belongs and itself."""

    def __init__(self, seed: int) -> None:
        self._rng = random.Random(seed)
        self._recent: deque[str] = deque(maxlen=RECENT)
        self._raw: dict[str, bytes] = {}
        self._count = 0

    def mutate(self, suffix: str, event: Event) -> Mutated:
        """``event`` under a new id and a deadline to come, then changed in one to three ways; one in 50 in none."""
        rng, self._raw = self._rng, {}
        self._count += 1
        tree = json.loads(event.encode()) | {"id": f"fuzz-{self._count}", "time": _stamp(timedelta())}
        if event.deadline is not None:
            tree["deadline"] = _stamp(timedelta(seconds=WITHIN_S))
        ways = [] if rng.random() < 0.02 else rng.choices(list(WAYS), k=rng.choice((1, 1, 1, 2, 3)))
        for way in ways:
            if change := TREES.get(way):
                change(self, tree)
        if isinstance(said := tree.get("id"), str):
            self._recent.append(said)
        raw = json.dumps(tree).encode()
        for marker, text in self._raw.items():
            raw = raw.replace(json.dumps(marker).encode(), text)
        for way in ways:
            raw = BYTES[way](self, raw) if way in BYTES else raw
        fields = {b"event": raw}
        for way in ways:
            fields = ENTRIES[way](self, fields) if way in ENTRIES else fields
        if "wrong stream" in ways:
            suffix = rng.choice(list(names.GROUPS))
        return Mutated(suffix, fields, tuple(ways))

    def drop(self, tree: Tree) -> None:
        *above, last = self._path(tree)
        del _at(tree, above)[last]

    def swap(self, tree: Tree) -> None:
        self._put(tree, self._rng.choice(OTHERS))

    def huge(self, tree: Tree) -> None:
        self._put(tree, self._marker(self._rng.choice(NUMBERS)))

    def nest(self, tree: Tree) -> None:
        opening, closing = self._rng.choice(((b"[", b"]"), (b'{"a":', b"}")))
        self._put(tree, self._marker(opening * LEVELS + b"0" + closing * LEVELS))

    def empty(self, tree: Tree) -> None:
        self._put(tree, self._rng.choice(("", [], {})))

    def odd(self, tree: Tree) -> None:
        self._put(tree, self._rng.choice(ODD))

    def unknown(self, tree: Tree) -> None:
        place = self._rng.choice((tree, tree.get("data")))
        if isinstance(place, dict):
            place[f"x{self._rng.randrange(100)}"] = self._rng.choice(OTHERS)

    def again(self, tree: Tree) -> None:
        if self._recent:
            tree["id"] = self._rng.choice(self._recent)

    def clock(self, tree: Tree) -> None:
        off = self._rng.choice((HOUR, -HOUR, 24 * HOUR, 31 * 24 * HOUR, None))
        stamp = self._rng.choice(DAYS) if off is None else _stamp(off)
        tree[self._rng.choice(("deadline", "deadline", "time"))] = stamp

    def kind(self, tree: Tree) -> None:
        tree["type"] = self._rng.choice(("nvp.tea.requested.v1", "", "nvp.prediction.requested.v2", "x" * 129))

    def flip(self, raw: bytes) -> bytes:
        changed = bytearray(raw)
        for _ in range(self._rng.randint(1, 8)):
            changed[self._rng.randrange(len(changed))] ^= 1 << self._rng.randrange(8)
        return bytes(changed)

    def cut(self, raw: bytes) -> bytes:
        return raw[: self._rng.randint(1, len(raw))]

    def noise(self, raw: bytes) -> bytes:
        place = self._rng.randrange(len(raw))
        return raw[:place] + self._rng.randbytes(self._rng.randint(1, 64)) + raw[place:]

    def twice(self, raw: bytes) -> bytes:
        return raw[:-1] + b"," + raw[1:]  # each key twice

    def no_event(self, fields: Fields) -> Fields:
        return self._rng.choice(({b"": b""}, {b"note": fields.get(b"event", b"")}, {b"\xff": b"\xfe"}, {b"event": b""}))

    def more_fields(self, fields: Fields) -> Fields:
        return fields | {b"%d" % number: b"x" for number in range(self._rng.choice((1, 100)))}

    def replayed(self, fields: Fields) -> Fields:
        groups = ("inference", "training", "tally", "nobody", "voter-0")
        said = (f"{self._rng.choice(groups)} {self._rng.choice((0, 3, 999999999))} 1-1", "1 2", "")
        return fields | {b"replayed": self._rng.choice(said).encode()}

    def _put(self, tree: Tree, value: Any) -> None:
        *above, last = self._path(tree)
        _at(tree, above)[last] = value

    def _marker(self, raw: bytes) -> str:
        marker = f"@raw{len(self._raw)}@"
        self._raw[marker] = raw
        return marker

    def _path(self, tree: Tree) -> Path:
        """To some value: the envelope's or, more often, one deeper."""
        path: Path = [self._rng.choice(list(tree))]
        while self._rng.random() < 0.8:
            there = _at(tree, path)
            if not isinstance(there, dict | list) or not there:
                break
            path.append(self._rng.choice(list(there)) if isinstance(there, dict) else self._rng.randrange(len(there)))
        return path


def _at(tree: Tree, path: Path) -> Any:
    there: Any = tree
    for step in path:
        there = there[step]
    return there


def _stamp(later: timedelta) -> str:
    return (datetime.now(UTC) + later).isoformat()


TREES: dict[str, Callable[[Mutator, Tree], None]] = {
    "field dropped": Mutator.drop, "type swapped": Mutator.swap, "huge number": Mutator.huge, "nested": Mutator.nest,
    "emptied": Mutator.empty, "odd text": Mutator.odd, "unknown field": Mutator.unknown, "id reused": Mutator.again,
    "clock off": Mutator.clock, "type unknown": Mutator.kind,
}  # fmt: skip
BYTES: dict[str, Callable[[Mutator, bytes], bytes]] = {
    "bytes flipped": Mutator.flip, "cut": Mutator.cut, "not UTF-8": Mutator.noise, "keys twice": Mutator.twice,
}  # fmt: skip
ENTRIES: dict[str, Callable[[Mutator, Fields], Fields]] = {
    "no event": Mutator.no_event, "more fields": Mutator.more_fields, "said to be replayed": Mutator.replayed,
}  # fmt: skip
WAYS = (*TREES, *BYTES, *ENTRIES, "wrong stream")
