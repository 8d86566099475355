"""A message in a worker's hands, from raw entry to validated delivery."""

from __future__ import annotations

import asyncio
import math
import re
import time
from collections.abc import Collection
from dataclasses import dataclass, field
from datetime import datetime
from typing import NamedTuple

from nvp_agentkit.errors import InvalidMessage
from nvp_agentkit.messages import Event, Payload, decode
from nvp_agentkit.observability.tracing import trace_id
from nvp_agentkit.streams import names

JOBS = ("jobs", "urgent")  # streams whose messages are jobs
REPLAYED = b"replayed"  # field beside the event where the message comes from the dead letters
HISTORY = re.compile(rb"([\w-]{1,64}) (\d{1,9}) (\d{1,20}-\d{1,20})")


class Replayed(NamedTuple):
    """A message's earlier life: the one group that gave it up, after how many attempts, and its first entry."""

    group: str
    attempts: int
    origin: str


class Entry(NamedTuple):
    """What the server handed over, not yet looked at. ``fields`` is None where the payload is gone.

    ``silent``: in how many deliveries before this one the worker fell silent.
    """

    account: str
    stream: str
    entry_id: str
    fields: dict[bytes, bytes] | None
    attempt: int
    silent: int = 0

    @property
    def replayed(self) -> Replayed | None:
        """None for a message that is here for the first time, and where the field says nothing that we write.

        A group that does not read the stream gave nothing up: the entry would be nobody's.
        """
        raw = self.fields and self.fields.get(REPLAYED)
        said = HISTORY.fullmatch(raw) if raw else None
        if said is None or said[1].decode() not in names.GROUPS.get(self.stream.rpartition(":")[2], ()):
            return None
        return Replayed(said[1].decode(), int(said[2]), said[3].decode())


@dataclass(slots=True, eq=False)
class Delivery:
    """One message under a lease. Delivered at least once: `attempt` counts from 1.

    `earlier` are the attempts before it was replayed from the dead letters, `origin` the entry it first came as, which
    is this one but for those. Of the attempts before this one `silent` ended in their worker's silence.
    `lost` is set when the lease went to another worker: what is done from then on completes nothing,
    so long work does well to look at it between steps.
    """

    account: str
    stream: str
    entry_id: str
    event: Event
    attempt: int
    earlier: int = 0
    origin: str = ""
    silent: int = 0
    received_ms: int = field(default_factory=lambda: time.time_ns() // 1_000_000)
    lost: asyncio.Event = field(default_factory=asyncio.Event, repr=False)
    ends: float = field(init=False, repr=False)
    _payload: Payload | None = field(default=None, init=False, repr=False)

    def __post_init__(self) -> None:
        self.origin = self.origin or self.entry_id
        self.ends = math.inf if self.event.deadline is None else self.event.deadline.timestamp()

    @property
    def payload(self) -> Payload:
        """The message body, read once; a handler only ever sees deliveries in which it is valid."""
        if self._payload is None:
            self._payload = self.event.payload
        return self._payload

    @property
    def request_id(self) -> str:
        return self.event.id

    @property
    def tried_before(self) -> bool:
        """Whether an attempt at it has ended without an answer, be it in another life."""
        return self.earlier + self.attempt > 1

    @property
    def ids(self) -> dict[str, str]:
        """For the log: which request or job of whom, and which trace it belongs to, if any."""
        what = "job" if self.stream.rpartition(":")[2] in JOBS else "request"
        trace = trace_id(self.event.traceparent)
        return {"account": self.account, what: self.request_id} | ({"trace": trace} if trace else {})

    @property
    def deadline(self) -> datetime | None:
        return self.event.deadline

    @property
    def remaining_s(self) -> float:
        """Seconds until the deadline, negative after it, infinite without one."""
        return self.ends - time.time()


def open_entry(entry: Entry) -> Delivery:
    """Read the envelope of ``entry``.

    Raises:
        InvalidMessage: there is none; the text says what is there instead.
    """
    if entry.fields is None:
        raise InvalidMessage(f"payload deleted while pending, after {entry.attempt} deliveries")
    raw = entry.fields.get(b"event")
    if raw is None:
        there = ", ".join(sorted(repr(name[:32]) for name in entry.fields)) or "nothing"
        raise InvalidMessage(f"entry has no field b'event', only {there[:200]}")
    _, attempts, origin = entry.replayed or Replayed("", 0, "")
    event = decode(raw)
    return Delivery(entry.account, entry.stream, entry.entry_id, event, entry.attempt, attempts, origin, entry.silent)


def check_payload(delivery: Delivery, accepts: Collection[type[Payload]]) -> None:
    """See that the body is valid, and of a kind that this consumer takes (empty: any).

    Raises:
        InvalidMessage: it is not.
    """
    kind = type(delivery.payload)
    if accepts and kind not in accepts:
        names = ", ".join(sorted(taken.__name__ for taken in accepts))
        raise InvalidMessage(f"{delivery.event.type} does not belong on this stream, which takes {names}")
