"""Quorum requests on file: what was asked, what has been cast, and until when more is waited for."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import structlog
from redis.asyncio import Redis

from nvp_agentkit.messages import Event, Reading, VoteCast, decode
from nvp_agentkit.observability.tracing import trace_id
from nvp_agentkit.streams import names

from . import facts, refusals

TTL_S = 3600  # beyond the deadline
GRACE_MS = 250  # after the deadline, for votes on the way
ASKED = "asked"
log = structlog.get_logger()


@dataclass(frozen=True)
class Case:
    """A quorum request as it lies on file: ``asked`` is the request without its field, or a vote about it.

    What was asked of which ensemble is known from what was cast: `Tally` fills in the digests.
    """

    account: str
    request_id: str
    asked: Event
    casts: tuple[VoteCast, ...]
    request_digest: str = ""
    record_digest: str = ""

    @property
    def ids(self) -> dict[str, str]:
        """For the log."""
        trace = trace_id(self.asked.traceparent)
        return {"account": self.account, "request": self.request_id} | ({"trace": trace} if trace else {})

    @property
    def energy(self) -> list[Reading]:
        return [cast.energy for cast in self.casts if cast.energy is not None]


class Cases:
    """Cases in Redis: a hash each, and their deadlines in order. Whatever comes twice is there once."""

    def __init__(self, redis: Redis) -> None:
        self._redis = redis

    async def open(self, account: str, asked: Event) -> None:
        """Put a request on file before any vote is cast, so that it is answered even if none ever is."""
        stub = asked.model_copy(update={"data": {"domain": asked.data["domain"]}})
        await self._file(account, asked.id, ASKED, stub)

    async def add(self, account: str, request_id: str, vote: Event) -> None:
        """Put a vote on file; two different votes of one voter are two."""
        await self._file(account, request_id, vote.id, vote)

    async def read(self, account: str, request_id: str) -> Case | None:
        """The case; None where nothing is known of it (any more)."""
        stored: Any = await self._redis.hgetall(_key(account, request_id))
        events = {name.decode(): decode(raw) for name, raw in sorted(stored.items())}
        if not events:
            return None
        votes = [event.payload for name, event in events.items() if name != ASKED]
        asked = events.get(ASKED) or next(iter(events.values()))
        return Case(account, request_id, asked, tuple(vote for vote in votes if isinstance(vote, VoteCast)))

    async def is_decided(self, account: str, request_id: str) -> bool:
        return bool(await self._redis.exists(names.key(account, names.decided(request_id))))

    async def due(self, accounts: Sequence[str]) -> list[tuple[str, str]]:
        """(account, request id) of those whose deadline, and a moment more, is over; in one round trip.

        One account's trouble, such as a key of the wrong type, is not the others'.
        """
        until_ms = facts.now_ms() - GRACE_MS
        pipe = self._redis.pipeline(transaction=False)
        for account in accounts:
            pipe.zrangebyscore(names.key(account, refusals.DEADLINES), "-inf", until_ms)
        found: list[tuple[str, str]] = []
        for account, due in zip(accounts, await pipe.execute(raise_on_error=False), strict=True):
            if isinstance(due, Exception):
                log.warning("deadlines not looked at", account=account, reason=str(due))
            else:
                found += [(account, raw.decode()) for raw in due]
        return found

    async def close(self, account: str, request_id: str) -> None:
        """Wait for nothing more. Whoever decides a case does so in that same step (`refusals.final`)."""
        await self._redis.zrem(names.key(account, refusals.DEADLINES), request_id)

    async def _file(self, account: str, request_id: str, field: str, event: Event) -> None:
        deadline_s = time.time() + TTL_S if event.deadline is None else event.deadline.timestamp()
        pipe = self._redis.pipeline()
        pipe.hset(_key(account, request_id), field, event.encode())
        pipe.expire(_key(account, request_id), round(max(deadline_s - time.time(), 0)) + TTL_S)
        pipe.zadd(names.key(account, refusals.DEADLINES), {request_id: round(1000 * deadline_s)}, nx=True)
        await pipe.execute()


def _key(account: str, request_id: str) -> str:
    return names.key(account, f"case:{request_id}")

