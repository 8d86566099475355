"""Dead letters: what no worker could use, with the reason and what was there; replayed or dropped by a person.

A replayed message is the same message: its bytes, so its id, deadline and budget. Its group alone works on it again;
the answer that was given as it died is taken back, so that whoever asks for the answer gets the next one. A client that
has read that answer already has read it: of two answers to one request the later one holds.
"""

from __future__ import annotations

import re
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from redis.asyncio import Redis

from nvp_agentkit.errors import ConflictingFact, DeadlineExceeded, InvalidInput, InvalidMessage, NvpError, UnknownName
from nvp_agentkit.messages import Event, decode
from nvp_agentkit.streams import names
from nvp_agentkit.streams.accounts import known
from nvp_agentkit.streams.delivery import REPLAYED
from nvp_agentkit.streams.scripts import Call, call_many

PAGE = 100  # letters in memory at a time, of up to 64 KiB each
DONE_TTL_S = 30 * 86_400  # how long it is known what became of a letter
DONE_KEPT = 10_000  # of an account's, about
NAME = re.compile(r"([a-z0-9-]{1,63})/([a-z]+)/(\d{1,20}-\d{1,20})")


@dataclass(frozen=True)
class DeadLetter:
    """One entry that was given up. ``raw`` are its own fields, cut after 64 KiB in all; ``size`` is what it had.

    ``told`` are the types of the answers that were given as it died.
    """

    account: str
    suffix: str
    letter_id: str
    entry_id: str
    reason: str
    group: str
    worker: str
    at_ms: int
    attempts: int
    size: int
    told: tuple[str, ...]
    raw: Mapping[bytes, bytes]

    @property
    def name(self) -> str:
        """``ACCOUNT/STREAM/ID``: what commands call it."""
        return f"{self.account}/{self.suffix}/{self.letter_id}"

    @property
    def stream(self) -> str:
        return names.key(self.account, self.suffix)

    @property
    def event(self) -> Event | None:
        """The message, where there is one that can be read."""
        try:
            return decode(self.raw.get(b"event", b""))
        except InvalidMessage:
            return None


@dataclass(frozen=True)
class Handled:
    """What became of a letter: ``what`` is replayed or dropped, ``as_id`` the entry that it is on its stream now."""

    what: str
    name: str
    reason: str
    as_id: str
    by: str
    at_ms: int


async def heaps(redis: Redis) -> dict[tuple[str, str], int]:
    """(account, stream suffix) -> how many dead letters, where there are any."""
    places = [(account, suffix) for account in await known(redis) for suffix in names.GROUPS]
    pipe = redis.pipeline(transaction=False)
    for place in places:
        pipe.xlen(names.dead(names.key(*place)))
    counts = await pipe.execute(raise_on_error=False) if places else []
    return {place: n for place, n in zip(places, counts, strict=True) if isinstance(n, int) and n}


async def dead_letters(redis: Redis, account: str, suffix: str, *, count: int = 100) -> list[DeadLetter]:
    """The newest ``count`` dead letters of one stream, newest first. The newest thousand are kept, or 8 MiB of them."""
    found: Any = await redis.xrevrange(names.dead(names.key(account, suffix)), count=count)
    return [_letter(account, suffix, *entry) for entry in found]


async def pages(redis: Redis, account: str, suffix: str) -> AsyncIterator[list[DeadLetter]]:
    """All dead letters of one stream that are there now, oldest first, `PAGE` at a time."""
    stream = names.dead(names.key(account, suffix))
    newest: Any = await redis.xrevrange(stream, count=1)
    after = "-"
    while newest:
        found: Any = await redis.xrange(stream, after, newest[0][0], count=PAGE)
        if not found:
            return
        yield [_letter(account, suffix, *entry) for entry in found]
        after = f"({found[-1][0].decode()}"


async def find(redis: Redis, name: str) -> DeadLetter:
    """The letter with that `DeadLetter.name`.

    Raises:
        InvalidInput: it is no such name.
        UnknownName: there is none (any more).
    """
    parts = NAME.fullmatch(name)
    if parts is None or parts[2] not in names.GROUPS:
        raise InvalidInput(
            f"{name!r} names no dead letter; write ACCOUNT/STREAM/ID as `nvp dead list` does, "
            f"STREAM being one of {', '.join(names.GROUPS)}"
        )
    account, suffix, letter_id = parts.groups()
    found: Any = await redis.xrange(names.dead(names.key(account, suffix)), letter_id, letter_id)
    if not found:
        raise _gone(name)
    return _letter(account, suffix, *found[0])


async def replay(redis: Redis, letters: Sequence[DeadLetter], *, by: str) -> list[str | NvpError]:
    """Put each message back on its stream; its new entry id, or why not. What is done to a letter is atomic.

    DeadlineExceeded where nobody waits any more, ConflictingFact where its id has been published again meanwhile,
    InvalidInput where not all of it was kept, UnknownName where somebody else was faster.
    """
    events = {letter.name: letter.event for letter in letters}
    timely = [letter for letter in letters if not _is_over(events[letter.name])]
    calls = [_replaying(letter, events[letter.name], by) for letter in timely]
    results = zip(timely, await call_many(redis, "replay", calls), strict=True)
    said = {letter.name: _replayed(letter, result) for letter, result in results}
    return [said.get(letter.name) or _late(letter) for letter in letters]


async def drop(redis: Redis, letters: Sequence[DeadLetter], *, by: str) -> int:
    """Remove letters for good; how many of them were still there."""
    results = await call_many(redis, "drop", [_handling(letter, by) for letter in letters])
    for result in results:
        if isinstance(result, Exception):
            raise result
    return sum(results)


async def handled(redis: Redis, account: str, *, count: int = DONE_KEPT) -> list[Handled]:
    """What became of the account's letters, newest first; known for 30 days, of the last ten thousand."""
    found: Any = await redis.xrevrange(names.handled(account), count=count)
    return [_handled(account, {name.decode(): value.decode() for name, value in fields.items()}) for _, fields in found]


def _handling(letter: DeadLetter, by: str) -> Call:
    keys = [letter.stream, names.dead(letter.stream), names.handled(letter.account)]
    return keys, [letter.letter_id, by, time.time_ns() // 1_000_000, DONE_TTL_S]


def _replaying(letter: DeadLetter, event: Event | None, by: str) -> Call:
    keys, args = _handling(letter, by)
    if event is None:
        return keys, args
    account, decided = letter.account, names.key(letter.account, names.decided(event.id))
    return [*keys, names.claim(account, event.id), names.answers(account, event.id), decided], args


def _replayed(letter: DeadLetter, result: Any) -> str | NvpError:
    if isinstance(result, Exception):
        return NvpError(f"{letter.name} not replayed: {result}")
    match result:
        case [b"ok", entry_id]:
            return str(entry_id.decode())
        case [b"cut"]:
            kept = sum(len(name) + len(value) for name, value in letter.raw.items())
            return InvalidInput(
                f"{letter.name}: {kept} of its {letter.size} bytes were kept, so it cannot be sent again"
            )
        case [b"another"]:
            return ConflictingFact(
                f"{letter.name}: its request id has been published again and belongs to that entry now"
            )
    return _gone(letter.name)


def _is_over(event: Event | None) -> bool:
    return event is not None and event.deadline is not None and event.deadline.timestamp() < time.time()


def _late(letter: DeadLetter) -> DeadlineExceeded:
    return DeadlineExceeded(f"{letter.name}: its deadline is over, a worker would only refuse it; ask again instead")


def _gone(name: str) -> UnknownName:
    return UnknownName(f"no dead letter {name}; it was replayed, dropped or displaced by newer ones")


def _letter(account: str, suffix: str, letter_id: bytes, fields: Mapping[bytes, bytes]) -> DeadLetter:
    def text(name: bytes) -> str:
        return fields.get(name, b"").decode(errors="replace")

    raw = {name.removeprefix(b"raw:"): value for name, value in fields.items() if name.startswith(b"raw:")}
    raw.pop(REPLAYED, None)
    return DeadLetter(
        account,
        suffix,
        letter_id.decode(),
        text(b"id"),
        text(b"reason"),
        text(b"group"),
        text(b"worker"),
        at_ms=int(fields[b"at_ms"]),
        attempts=int(fields.get(b"attempts", b"1")),
        size=int(fields.get(b"size", b"-1")),
        told=tuple(text(b"told").split()),
        raw=raw,
    )


def _handled(account: str, said: Mapping[str, str]) -> Handled:
    suffix = said["stream"].rpartition(":")[2]
    name = f"{account}/{suffix}/{said['letter']}"
    return Handled(said["what"], name, said["reason"], said["as"], said["by"], int(said["at_ms"]))
