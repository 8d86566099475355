"""Asking and being answered: publish an event, wait for its reply."""

from __future__ import annotations

import asyncio
import logging
import time
from collections import defaultdict
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Self

from redis.asyncio import Redis

from nvp_agentkit.errors import DeadlineExceeded, StoreUnavailable
from nvp_agentkit.messages import Event, decode
from nvp_agentkit.observability.tracing import current, span
from nvp_agentkit.streams import names
from nvp_agentkit.streams.connect import AWAY, store_errors

log = logging.getLogger(__name__)

BLOCK_MS = 1000
LOOK_S = 5.0  # how often a waiting call looks for itself, should the stream have been lost or trimmed


async def publish(redis: Redis, account: str, suffix: str, event: Event) -> str:
    """Append ``event`` to the account's stream; the entry's id.

    Raises:
        StoreUnavailable: Redis is away. The event may have arrived all the same: publishing it again is safe,
            since answers go by its id.
    """
    with publishing(account, suffix, event) as sent:
        entry_id = await redis.xadd(names.key(account, suffix), {"event": sent.encode()})
    return entry_id.decode() if isinstance(entry_id, bytes) else entry_id


@contextmanager
def publishing(account: str, suffix: str, event: Event) -> Iterator[Event]:
    """``event`` as it is sent, with the span in which it is; the server's absence inside is a `StoreUnavailable`."""
    about = {"messaging__system": "redis", "messaging__message__id": event.id, "nvp__account": account}
    with store_errors(), span(f"publish {suffix}", "PRODUCER", parent=event.traceparent, **about):
        here = current()
        yield event.model_copy(update={"traceparent": here}) if here else event


async def answer(redis: Redis, account: str, request_id: str, types: Collection[str]) -> Event | None:
    """The answer to a request that is already there, of the first of ``types`` that is."""
    found = await redis.hmget(names.answers(account, request_id), list(types))
    return next((decode(raw) for raw in found if raw is not None), None)


async def newest(redis: Redis, account: str) -> Any:
    """The position after which replies are still to come."""
    entries = await redis.xrevrange(names.replies(account), count=1)
    return entries[0][0] if entries else "0-0"


@dataclass(eq=False)
class _Waiter:
    """Who waits for a reply of one of ``types``, and what the stream has ``told`` of that since."""

    types: Collection[str]
    woken: asyncio.Event = field(default_factory=asyncio.Event)
    told: bytes | None = None

    def hears(self, fields: dict[bytes, bytes]) -> None:
        if fields.get(b"type", b"").decode() in self.types:
            self.told = fields.get(b"event")
        self.woken.set()


class ReplyReader:
    """One reader of an account's replies for any number of waiting requests.

    Answers are kept by request, so it does not matter whether the reply came before `wait`, during a
    reconnect, or to another process: the stream brings it sooner, and says when to look.
    """

    def __init__(self, redis: Redis, account: str) -> None:
        self._redis, self._account = redis, account
        self._waiting: dict[str, set[_Waiter]] = defaultdict(set)
        self._reading: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        self._reading = asyncio.create_task(self._read())
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._reading is not None:
            self._reading.cancel()  # a plain XREAD holds nothing, so this one may be cancelled
            await asyncio.gather(self._reading, return_exceptions=True)

    async def wait(self, request_id: str, types: Collection[str], *, timeout_s: float) -> Event:
        """The reply of one of ``types`` to ``request_id``.

        Raises:
            DeadlineExceeded: none came within ``timeout_s``, whatever the server did meanwhile.
            StoreUnavailable: the same, and the server could not be asked at the end.
        """
        until = time.monotonic() + timeout_s
        waiter = _Waiter(types)
        self._waiting[request_id].add(waiter)
        try:
            while True:
                waiter.woken.clear()
                away = None
                left_s = until - time.monotonic()
                try:
                    # A server that hangs must not hold the caller; the last look gets a moment of its own.
                    async with asyncio.timeout(max(left_s, 0.05)):
                        if found := await answer(self._redis, self._account, request_id, types):
                            return found
                except (TimeoutError, *AWAY) as error:
                    away = error
                left_s = until - time.monotonic()
                if left_s <= 0:
                    raise _late(request_id, timeout_s, away)
                await _either(waiter.woken, min(left_s, LOOK_S if away is None else 0.25))
                if waiter.told is not None:
                    return decode(waiter.told)
        finally:
            self._waiting[request_id].discard(waiter)
            if not self._waiting[request_id]:
                del self._waiting[request_id]

    async def _read(self) -> None:
        position: Any = None
        while True:
            try:
                position = await self._read_once(position)
            except AWAY as error:
                log.warning("replies of %s not read, stream server away: %s", self._account, error)
                await asyncio.sleep(0.25)

    async def _read_once(self, position: Any) -> Any:
        if position is None:
            position = await newest(self._redis, self._account)
        found: Any = await self._redis.xread({names.replies(self._account): position}, block=BLOCK_MS)
        for _, entries in found:
            for entry_id, fields in entries:
                position = entry_id
                for waiter in self._waiting.get(fields.get(b"replyto", b"").decode(), ()):
                    waiter.hears(fields)
        return position


def _late(request_id: str, timeout_s: float, away: Exception | None) -> Exception:
    if away is not None:
        reason = str(away) or "no answer"
        return StoreUnavailable(f"request {request_id}: stream server away after {timeout_s:.1f} s ({reason})")
    return DeadlineExceeded(
        f"request {request_id}: no reply within {timeout_s:.1f} s; `nvp status` shows whether a worker is ready"
    )


async def _either(woken: asyncio.Event, timeout_s: float) -> None:
    try:
        await asyncio.wait_for(woken.wait(), timeout_s)
    except TimeoutError:
        return
