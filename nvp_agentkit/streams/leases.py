"""Leases of the entries a consumer works on: renewed while the work runs, and only if they are still its own."""

from __future__ import annotations

import asyncio
import logging
import time
from collections import defaultdict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from redis.asyncio import Redis
from redis.exceptions import RedisError

from nvp_agentkit.streams import names
from nvp_agentkit.streams.delivery import Delivery, Entry
from nvp_agentkit.streams.scripts import call_many

log = logging.getLogger(__name__)

LONGEST_S = 3600.0  # how long the lease of a message without deadline is renewed
GIVEN_BACK_TTL_S = 3600  # after which a worker that dies is taken to have died of what others gave back


class Leases:
    """What one consumer holds. A lease is the idle time after which the group gives an entry to another worker."""

    def __init__(self, redis: Redis, *, group: str, consumer: str, lease_s: float) -> None:
        self._redis, self._group, self._consumer = redis, group, consumer
        self._lease_s = lease_s
        self._held: dict[Delivery, float] = {}  # until when each is renewed

    @property
    def held_s(self) -> list[float]:
        """How long each of them has been held."""
        now_ms = time.time_ns() // 1_000_000
        return [max(0.0, (now_ms - delivery.received_ms) / 1000) for delivery in list(self._held)]

    @property
    def held(self) -> list[tuple[str, str]]:
        """Stream and entry of each of them."""
        return [(delivery.stream, delivery.entry_id) for delivery in self._held]

    @contextmanager
    def holding(self, deliveries: Sequence[Delivery]) -> Iterator[None]:
        """Renew the leases of ``deliveries`` inside the block.

        Not for ever: until a message's deadline, or `LONGEST_S` where it has none, so that a wedged handler
        does not keep its work from everybody else.
        """
        now, clock = time.monotonic(), time.time()
        for delivery in deliveries:
            self._held[delivery] = now + min(delivery.ends - clock, LONGEST_S)
        try:
            yield
        finally:
            for delivery in deliveries:
                del self._held[delivery]

    async def renew_forever(self) -> None:
        """Renew at a quarter of the lease; three renewals may fail before one is lost."""
        while True:
            await asyncio.sleep(self._lease_s / 4)
            try:
                await self._renew()
            except RedisError as error:
                log.warning("leases not renewed: %s", error)

    async def _renew(self) -> None:
        now = time.monotonic()
        by_stream: dict[str, list[Delivery]] = defaultdict(list)
        for delivery, until in self._held.items():
            if now < until and not delivery.lost.is_set():
                by_stream[delivery.stream].append(delivery)
        calls = [
            ([stream], [self._group, self._consumer, *(delivery.entry_id for delivery in deliveries)])
            for stream, deliveries in by_stream.items()
        ]
        results = await call_many(self._redis, "renew", calls)
        for deliveries, renewed in zip(by_stream.values(), results, strict=True):
            if isinstance(renewed, Exception):
                log.warning("leases not renewed: %s", renewed)
                continue
            for delivery, mine in zip(deliveries, renewed, strict=True):
                if not mine:
                    delivery.lost.set()  # or just completed; the handler is not there any more to be told

    async def release(self, entries: Sequence[Entry | Delivery], *, wait_s: float, counted: bool) -> None:
        """Let go of ``entries`` if they are still ours; any worker may take them after ``wait_s``.

        Args:
            wait_s: at most the lease.
            counted: whether this delivery counts as an attempt; it did not end in silence.
        """
        idle_ms = int(1000 * max(0.0, self._lease_s - wait_s))
        kept_s = GIVEN_BACK_TTL_S if counted else 0
        await call_many(self._redis, "release", [
            (
                [one.stream, names.given_back(one.stream, self._group, one.entry_id)],
                [self._group, self._consumer, one.entry_id, idle_ms, one.attempt - (not counted), kept_s],
            )
            for one in entries
        ])  # fmt: skip
