"""Where a consumer's entries come from: every account's stream of one kind, read fairly."""

from __future__ import annotations

import asyncio
import logging
import time
from collections import Counter
from collections.abc import Callable, Collection, Sequence
from typing import Any

from redis.asyncio import Redis

from nvp_agentkit.streams import names
from nvp_agentkit.streams.accounts import create_groups, known
from nvp_agentkit.streams.delivery import Entry
from nvp_agentkit.streams.scripts import call, call_many

log = logging.getLogger(__name__)

BLOCK_S = 1.0  # a blocked read is never cancelled (52 of 300 provoked races lost sight of a message), so it is short
IDLE_S = 0.2  # between two looks at a registry without accounts
WATCH_S = 1.0  # how soon a new account is served
SUSPECT = 2  # deliveries that ended in silence; from then on an entry harms nobody but itself
AGEING = 4  # of so many reads one begins with what would go last
SILENT_MS = 3_600_000  # a consumer that holds nothing and was silent for so long is removed from its group


class Intake:
    """New entries and those whose worker fell silent, over all registered accounts.

    COUNT holds per stream, so an account that floods takes its share of a batch and no more; the streams take
    turns at the front. Of several ``kinds`` the first is read first, but for every `AGEING` th read.

    ``in_hand``: (stream, entry) of what the consumer still works on or settles. It takes none of these over from itself
    when the server was away for longer than a lease: the work would be done, and paid, once more.
    """

    def __init__(
        self,
        redis: Redis,
        *,
        kinds: Sequence[str],
        group: str,
        consumer: str,
        lease_s: float,
        in_hand: Callable[[], Collection[tuple[str, str]]] = tuple,
    ) -> None:
        self._redis, self._kinds, self._group, self._consumer = redis, kinds, group, consumer
        self._in_hand = in_hand
        self._kind_of: dict[str, str] = {}
        self._reads = 0
        self._lease_ms = int(1000 * lease_s)
        self._sweep_s = min(1.0, lease_s / 4)
        self._streams: dict[str, str] = {}
        self._unusable: set[str] = set()
        self._served: dict[str, str] = {}  # of each kind the stream that was read last
        self._swept, self._new_first = "", False
        self._watch_at = self._sweep_at = 0.0

    def forget(self) -> None:
        """Make every group anew before the next read: after NOGROUP, FLUSHALL, a restart, a failover."""
        self._streams, self._watch_at = {}, 0.0

    async def take(self, room: int, wait_s: float = BLOCK_S) -> list[Entry]:
        """Some entries: those of silent workers when a sweep is due, else new ones, waiting ``wait_s`` for the first.

        At most ``room``; but where there are more accounts than room, a blocking read may bring one of each.
        """
        now = time.monotonic()
        if now >= self._watch_at:
            await self._watch()
            self._watch_at = now + WATCH_S
        if not self._streams:
            await asyncio.sleep(min(wait_s, IDLE_S))
            return []
        sweep_due = now >= self._sweep_at
        if sweep_due and not self._new_first:
            if stale := await self._sweep(room):
                self._new_first = True  # there may be more of them, but one account's retries must not keep all busy
                return stale
            self._sweep_at, sweep_due = now + self._sweep_s, False
        self._new_first = False
        return await self._new(room, 0 if sweep_due else min(wait_s, self._sweep_s))

    async def leave(self) -> None:
        """Remove this consumer from its groups, where it holds nothing."""
        await self._tidy(list(self._streams))

    async def _watch(self) -> None:
        """Follow the registry. An account whose key is no stream is left out, and said; the others are served."""
        accounts = await known(self._redis)
        self._kind_of = {names.key(account, kind): kind for kind in self._kinds for account in accounts}
        wanted = {names.key(account, kind): account for kind in self._kinds for account in accounts}
        added = [stream for stream in wanted if stream not in self._streams]
        refused = await create_groups(self._redis, {
            stream: tuple(dict.fromkeys((*names.GROUPS.get(self._kind_of[stream], ()), self._group)))
            for stream in added
        })
        for stream in refused.keys() - self._unusable:
            log.error("stream %s cannot be used: %s", stream, refused[stream])
        self._unusable = set(refused)
        self._streams = {stream: account for stream, account in wanted.items() if stream not in refused}
        await self._tidy([stream for stream in added if stream not in refused])

    async def _tidy(self, streams: list[str]) -> None:
        await call_many(
            self._redis, "tidy", [([stream], [self._group, self._consumer, SILENT_MS]) for stream in streams]
        )

    def _by_rank(self) -> Sequence[str]:
        """The kinds, the first one first; at every `AGEING` th read last, so that nothing waits for ever."""
        self._reads += 1
        return self._kinds[::-1] if self._reads % AGEING == 0 else self._kinds

    async def _new(self, room: int, wait_s: float) -> list[Entry]:
        block_ms = max(1, int(1000 * wait_s)) if wait_s > 0 else None
        everyone = [stream for kind in self._by_rank() for stream in self._in_turn(kind)]
        if len(everyone) <= room:
            share = room // len(everyone)
            found = await self._read(everyone, share, block_ms)
        else:
            share, found = 1, await self._one_each(everyone, room)
            if not found and block_ms:
                return await self._read(everyone, 1, block_ms)
        # Who gave a whole share may have more; the others have had their turn.
        given = Counter(entry.stream for entry in found)
        full = [stream for stream, count in given.items() if count == share]
        more = (room - len(found)) // len(full) if full else 0
        return found + (await self._read(full, more, None) if more else [])

    def _in_turn(self, kind: str) -> list[str]:
        """The streams of that kind, beginning after the one that was served last."""
        streams = [stream for stream in self._streams if self._kind_of[stream] == kind]
        return _after(self._served.get(kind), streams)

    async def _one_each(self, streams: list[str], room: int) -> list[Entry]:
        """The first of each, of as many as there is room for; in two round trips, however many have nothing.

        Where all are busy the first one is enough, and names no more streams than it reads: with a thousand in one call
        300 accounts were served at less than half the rate.
        """
        looked_at = room
        found = await self._read(streams[:room], 1, None)
        if not found:
            further, read = await call(self._redis, "read", streams[room:], [self._group, self._consumer, room])
            looked_at += further
            found = [
                self._entry(stream.decode(), entry_id, _fields(flat))
                for stream, entries in read
                for entry_id, flat in entries
            ]
        if found:
            self._served |= {self._kind_of[stream]: stream for stream in streams[:looked_at]}
        return found

    async def _read(self, streams: list[str], count: int, block_ms: int | None) -> list[Entry]:
        found: Any = await self._redis.xreadgroup(
            self._group, self._consumer, dict.fromkeys(streams, ">"), count=count, block=block_ms
        )
        return [
            self._entry(name, entry_id, fields)
            for name, entries in ((stream.decode(), entries) for stream, entries in found)
            for entry_id, fields in entries
        ]

    async def _sweep(self, room: int) -> list[Entry]:
        """Up to ``room`` entries whose lease ran out, the streams taking turns; one that is suspect comes alone."""
        streams = _after(self._swept, list(self._streams))
        places = {stream: place for place, stream in enumerate(streams, 1)}
        in_hand = [(places[stream], entry_id) for stream, entry_id in self._in_hand() if stream in places]
        keys = [key for stream in streams for key in (stream, names.given_back(stream, self._group))]
        args = [self._group, self._consumer, self._lease_ms, room, SUSPECT, *(one for pair in in_hand for one in pair)]
        last, taken = await call(self._redis, "reclaim", keys, args)
        self._swept = streams[last - 1]  # where not even the first has had its turn it is the one before that
        return [
            self._entry(streams[place - 1], entry_id, _fields(*flat), deliveries, silent)
            for place, entry_id, deliveries, silent, *flat in taken
        ]

    def _entry(
        self, stream: str, entry_id: bytes, fields: dict[bytes, bytes] | None, attempt: int = 1, silent: int = 0
    ) -> Entry:
        return Entry(self._streams[stream], stream, entry_id.decode(), fields, attempt, silent)


def are_suspect(entries: Sequence[Entry]) -> bool:
    """Whether they are one that may have killed its workers: such a one comes alone."""
    return bool(entries) and entries[0].silent >= SUSPECT


def _after(last: str | None, streams: list[str]) -> list[str]:
    """``streams`` in their order, beginning after ``last`` where that is one of them."""
    start = streams.index(last) + 1 if last in streams else 0
    return streams[start:] + streams[:start]


def _fields(flat: list[bytes] | None = None) -> dict[bytes, bytes] | None:
    """What a function gave back of an entry; None where there is nothing left of it."""
    return None if flat is None else dict(zip(flat[::2], flat[1::2], strict=True))
