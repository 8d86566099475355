"""The door of an account: what is asked is refused while too much of it waits, before the server's memory runs out."""

from __future__ import annotations

import math
import time
from collections import defaultdict
from dataclasses import dataclass
from typing import Any

from redis.asyncio import Redis

from nvp_agentkit.errors import AccountFull, StoreUnavailable
from nvp_agentkit.messages import Event
from nvp_agentkit.streams import names
from nvp_agentkit.streams.connect import store_errors
from nvp_agentkit.streams.replies import publish, publishing

WAITING = 20_000  # entries of a stream that are not done with; half of them a dead shadow may hold (`complete.lua`)
FLOODED = 25_000  # of a stream that one group reads: what goes past the door is refused beyond it, by who reads it
FACTS = 100_000  # of an account that wait for the graph: 100 MB, about
ROOM = 0.8  # of its memory a server may use; what workers have in hand has the rest to end in
MARK_S = 10  # how long it holds what a worker said of the memory
LOOK_S = 0.25  # how often a look goes along while less than half of the room is taken, which then costs 65 us
FRESH_S = 5.0  # what was seen so long ago is looked at again first


@dataclass
class _Seen:
    """What was there at a look of this process; of the entries that it ``sent`` since, ``counted`` were there for sure.

    Answers may overtake each other: each says at least how much waits by now, with what is not counted in it.
    """

    waiting: int = 0
    facts: int = 0
    short: str = ""
    at: float = float("-inf")
    sent: int = 0
    taken: int = 0
    counted: int = 0

    @property
    def at_most(self) -> int:
        return self.waiting + self.sent - self.counted

    @property
    def age_s(self) -> float:
        return time.monotonic() - self.at


class Door:
    """Where a process publishes for an account. One round trip an entry: a look goes along with one, for the next.

    An account's own user may run no function on the server (docs/decisions/050), so two processes that find the last
    place free may both take it: the limit is exceeded by what all of them have on the way at that moment.
    """

    def __init__(self, redis: Redis, account: str) -> None:
        self._redis, self._account = redis, account
        self._seen: defaultdict[str, _Seen] = defaultdict(_Seen)

    async def publish(self, suffix: str, event: Event) -> str:
        """`replies.publish`, unless too much waits.

        Raises:
            AccountFull: nothing was sent; of that stream, or of facts, the account has as much waiting as it may.
            StoreUnavailable: Redis is away, and the event may have arrived all the same; or short of memory.
        """
        seen = self._seen[suffix]
        if seen.age_s > FRESH_S or self._reason(suffix):
            taken = seen.taken
            with store_errors():
                self._remember(suffix, taken, await self._looking(suffix).execute(raise_on_error=False))
        if reason := self._reason(suffix):
            raise reason
        due = seen.age_s > LOOK_S or seen.at_most > WAITING // 2
        seen.sent += 1
        try:
            if due:
                return await self._publish_looking(suffix, event)
            return await publish(self._redis, self._account, suffix, event)
        finally:
            seen.taken += 1  # or never will be

    async def _publish_looking(self, suffix: str, event: Event) -> str:
        taken = self._seen[suffix].taken
        with publishing(self._account, suffix, event) as sent:
            pipe = self._looking(suffix, {"event": sent.encode()})
            entry_id, *found = await pipe.execute(raise_on_error=False)
            if isinstance(entry_id, Exception):
                raise entry_id
        self._remember(suffix, taken + 1, found)
        return str(entry_id.decode())

    def _looking(self, suffix: str, added: Any = None) -> Any:
        pipe: Any = self._redis.pipeline(transaction=False)
        if added:
            pipe.xadd(names.key(self._account, suffix), added)
        pipe.xlen(names.key(self._account, suffix))
        pipe.xlen(names.key(self._account, "lineage"))
        pipe.get(names.SHORT)
        return pipe

    def _remember(self, suffix: str, counted: int, found: list[Any]) -> None:
        """What the server would not tell (Redis 6.2 keeps the registry from accounts) is taken to be nothing."""
        seen = self._seen[suffix]
        waiting, facts, short = (None if isinstance(one, Exception) else one for one in found)
        seen.waiting, seen.facts, seen.short = waiting or 0, facts or 0, (short or b"").decode()
        seen.at, seen.counted = time.monotonic(), counted

    def _reason(self, suffix: str) -> AccountFull | StoreUnavailable | None:
        seen, again = self._seen[suffix], f"ask again in {AccountFull.retry_after_s:.0f} s"
        if seen.at_most >= WAITING:
            return AccountFull(
                f"account {self._account}: {seen.at_most:,} entries wait on its stream {suffix!r}, limit {WAITING:,}; "
                f"{again}, or add workers (`nvp status`)"
            )
        if seen.facts >= FACTS:
            return AccountFull(
                f"account {self._account}: {seen.facts:,} facts wait for the graph, limit {FACTS:,}; {again} "
                "(`nvp status` shows the recorder)"
            )
        if seen.short:
            return StoreUnavailable(f"stream server short of memory: {seen.short}; {again}, or give it more")
        return None


def most_waiting(suffix: str) -> float:
    """How many entries a worker lets wait on such a stream; of what several groups read none can refuse for all."""
    return FLOODED if suffix in {"predict", "jobs"} else math.inf


async def tell_memory(redis: Redis) -> None:
    """Say at every door whether the server has room left; what is said is forgotten after `MARK_S`."""
    info = await redis.info("memory")
    used, most = int(info["used_memory"]), int(info.get("maxmemory", 0))
    if most and used > ROOM * most:
        said = f"{used / 2**20:,.0f} of {most / 2**20:,.0f} MiB used, limit {ROOM:.0%}"
        await redis.set(names.SHORT, said, ex=MARK_S)
    else:
        await redis.delete(names.SHORT)
