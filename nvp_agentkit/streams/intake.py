"""Where a consumer's entries come from: every account's stream of one kind, read fairly."""

from __future__ import annotations

import asyncio
import logging
import time
from collections import Counter, defaultdict
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
        self._served, self._new_first = "", False
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

    def _in_turn(self) -> list[str]:
        """All streams, beginning after the one that was served last."""
        streams = list(self._streams)
        start = streams.index(self._served) + 1 if self._served in self._streams else 0
        return streams[start:] + streams[:start]

    def _by_rank(self, streams: list[str]) -> list[str]:
        """Those of the first kind first; at every `AGEING` th read last, so that nothing waits for ever."""
        if len(self._kinds) == 1:
            return streams
        self._reads += 1
        return sorted(streams, key=lambda one: self._kinds.index(self._kind_of[one]), reverse=self._reads % AGEING == 0)

    async def _new(self, room: int, wait_s: float) -> list[Entry]:
        block_ms = max(1, int(1000 * wait_s)) if wait_s > 0 else None
        everyone = self._by_rank(self._in_turn())
        share = max(1, room // len(everyone))
        found: list[Entry] = []
        for start in range(0, len(everyone), room):
            window = everyone[start : start + room]
            found = await self._read(window, share, block_ms if len(window) == len(everyone) else None)
            if found:
                self._served = window[-1]
                break
        if not found and block_ms and room < len(everyone):
            return await self._read(everyone, 1, block_ms)
        # Who gave a whole share may have more; the others have had their turn.
        given = Counter(entry.stream for entry in found)
        full = [stream for stream, count in given.items() if count == share]
        more = (room - len(found)) // len(full) if full else 0
        return found + (await self._read(full, more, None) if more else [])

    async def _read(self, streams: list[str], count: int, block_ms: int | None) -> list[Entry]:
        found: Any = await self._redis.xreadgroup(
            self._group, self._consumer, dict.fromkeys(streams, ">"), count=count, block=block_ms
        )
        return [
            Entry(self._streams[name], name, entry_id.decode(), fields, attempt=1)
            for name, entries in ((stream.decode(), entries) for stream, entries in found)
            for entry_id, fields in entries
        ]

    async def _sweep(self, room: int) -> list[Entry]:
        """Up to ``room`` entries whose lease ran out, the streams taking turns; one that is suspect comes alone."""
        everyone = self._in_turn()
        pipe = self._redis.pipeline(transaction=False)
        for stream in everyone:
            pipe.xpending_range(stream, self._group, "-", "+", 1, idle=self._lease_ms)
        stale = [stream for stream, found in zip(everyone, await pipe.execute(), strict=True) if found]
        in_hand: dict[str, list[str]] = defaultdict(list)
        for stream, entry_id in self._in_hand():
            in_hand[stream].append(entry_id)
        entries: list[Entry] = []
        for stream in stale:
            share = max(1, room // len(stale))
            taken = await call(self._redis, "reclaim", [stream, names.given_back(stream, self._group)], [
                self._group, self._consumer, self._lease_ms, share, SUSPECT, len(entries), *in_hand[stream]
            ])  # fmt: skip
            entries += [self._claimed(stream, *claim) for claim in taken]
            self._served = stream
            if len(entries) >= room or (entries and entries[0].silent >= SUSPECT):
                break
        return entries

    def _claimed(
        self, stream: str, entry_id: bytes, deliveries: int, silent: int, flat: list[bytes] | None = None
    ) -> Entry:
        fields = None if flat is None else dict(zip(flat[::2], flat[1::2], strict=True))
        return Entry(self._streams[stream], stream, entry_id.decode(), fields, deliveries, silent)
