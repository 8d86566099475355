"""What a key of the modelled store can hold beside bytes (string) and dict (hash): sorted sets and streams."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TypeVar

EntryId = tuple[int, int]
T = TypeVar("T")
LAST: EntryId = (2**64 - 1, 2**64 - 1)


class UnmodelledError(Exception):
    """The product sends a command that the model does not know: a gap of the model, and no answer of a server."""


class SortedSet(dict[bytes, float]):
    """Member -> score."""

    def copy(self) -> SortedSet:
        return SortedSet(self)

    def in_order(self) -> list[tuple[float, bytes]]:
        return sorted((score, member) for member, score in self.items())


@dataclass
class Pending:
    """An entry in somebody's hands."""

    consumer: bytes
    delivered_ms: int
    deliveries: int


@dataclass
class Group:
    last: EntryId
    pending: dict[EntryId, Pending] = field(default_factory=dict)
    seen_ms: dict[bytes, int] = field(default_factory=dict)  # its consumers

    def held_by(self, consumer: bytes) -> int:
        return sum(one.consumer == consumer for one in self.pending.values())

    def copy(self) -> Group:
        pending = {entry_id: replace(one) for entry_id, one in self.pending.items()}
        return Group(self.last, pending, dict(self.seen_ms))


@dataclass
class Stream:
    entries: dict[EntryId, list[bytes]] = field(default_factory=dict)  # in the order of their ids
    last: EntryId = (0, 0)
    groups: dict[bytes, Group] = field(default_factory=dict)

    def copy(self) -> Stream:
        groups = {name: group.copy() for name, group in self.groups.items()}
        return Stream(dict(self.entries), self.last, groups)

    def next_id(self, now_ms: int) -> EntryId:
        return (now_ms, 0) if now_ms > self.last[0] else (self.last[0], self.last[1] + 1)

    def after(self, last: EntryId, count: int | None) -> list[EntryId]:
        found = [one for one in self.entries if one > last] if self.last > last else []
        return found[:count] if count else found

    def between(self, first: EntryId, last: EntryId, count: int | None, *, newest: bool = False) -> list[EntryId]:
        found = [one for one in self.entries if first <= one <= last]
        return (found[::-1] if newest else found)[:count]


def shown(entry_id: EntryId) -> bytes:
    return b"%d-%d" % entry_id


def read_id(raw: bytes, *, least: bool = True) -> EntryId:
    """``5`` is ``5-0`` where a range begins, and the last id of that millisecond where one ends."""
    if raw in (b"-", b"+"):
        return (0, 0) if raw == b"-" else LAST
    ms, dash, sequence = raw.partition(b"-")
    return int(ms), int(sequence) if dash else 0 if least else LAST[1]


def copied(value: T) -> T:
    """The same value, to be changed by itself."""
    return value if isinstance(value, bytes) else value.copy()  # type: ignore[attr-defined]
