"""What becomes of a message: worked on, completed, refused, tried again or dead-lettered. No input, no output."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import NamedTuple

from nvp_agentkit.errors import AccountFull, DeadlineExceeded, InvalidInput, InvalidMessage, NvpError
from nvp_agentkit.messages import Payload
from nvp_agentkit.messages.checks import MAX_DEADLINE_S
from nvp_agentkit.observability.about import about
from nvp_agentkit.streams.completion import Completion, Settlement
from nvp_agentkit.streams.delivery import Delivery, Entry, check_payload, open_entry

log = logging.getLogger(__name__)

CLOCKS_DIFFER_S = 3600.0

Outcome = Completion | NvpError
Refuse = Callable[[Delivery, NvpError], Completion]


class Again(NamedTuple):
    """Deliver this message once more, later."""

    delivery: Delivery
    error: NvpError


@dataclass(frozen=True)
class Rules:
    """A consumer's rules. See `consumer.Consumer` for the attributes."""

    refuse: Refuse
    accepts: Collection[type[Payload]]
    max_deliveries: float
    group: str

    def receive(self, entry: Entry) -> Delivery | Settlement:
        """Look at one entry alone, so that a bad one leaves its neighbours unharmed."""
        if entry.replayed and entry.replayed.group != self.group:
            return _end(entry)  # another group's; this one was done with it before
        try:
            return open_entry(entry)
        except InvalidMessage as error:
            return _end(entry, str(error), fenced=entry.fields is not None)

    def of_no_use(self, delivery: Delivery) -> str:
        """Why the message could not have been worked on here; empty where it could."""
        try:
            check_payload(delivery, self.accepts)
        except InvalidMessage as error:
            return str(error)
        return ""

    def admit(self, delivery: Delivery, *, full: bool = False) -> Delivery | Settlement:
        """What may be worked on; anything else is refused. Not asked of a repeat, which gets no answer of its own.

        ``full``: so much of its account waits that this one has to go.
        """
        if useless := self.of_no_use(delivery):
            return self._refused(delivery, InvalidMessage(useless), dead=useless)
        if untimely := _untimely(delivery):
            return self._refused(delivery, untimely)
        if full:
            return self._refused(delivery, AccountFull(
                f"account {delivery.account}: too many entries wait on {delivery.stream}; ask again in "
                f"{AccountFull.retry_after_s:.0f} s, and look at the stream's length first"
            ))  # fmt: skip
        if delivery.attempt > self.max_deliveries:
            reason = f"delivered {delivery.attempt - 1} times; {_ends(delivery)}"
            return self._refused(delivery, NvpError(reason), dead=reason)
        return delivery

    def conclude(self, delivery: Delivery, outcome: Outcome) -> Settlement | Again:
        """What follows from what the handler said."""
        if isinstance(outcome, Completion):
            return Settlement(delivery.account, delivery.stream, delivery.entry_id, outcome, delivery=delivery)
        if not outcome.retryable:
            return self._refused(delivery, outcome, dead=str(outcome) if type(outcome) is NvpError else "")
        if delivery.attempt < self.max_deliveries:
            return Again(delivery, outcome)
        return self._refused(delivery, outcome, dead=f"failed {delivery.attempt} times, last with: {outcome}")

    def _refused(self, delivery: Delivery, error: NvpError, dead: str = "") -> Settlement:
        at = (delivery.account, delivery.stream, delivery.entry_id)
        with about(delivery.ids):
            try:
                completion = self.refuse(delivery, error)
            except Exception:
                # Of a body that cannot be read there may be nothing to answer; the dead letter has it.
                log.exception("no refusal for %s on %s (%s)", delivery.entry_id, delivery.stream, error)
                completion, dead = Completion(), dead or f"refused, but the refusal failed: {error}"
        attempts = delivery.earlier + int(min(delivery.attempt, self.max_deliveries))
        return Settlement(*at, completion, dead, attempts=attempts, delivery=delivery)


def _ends(delivery: Delivery) -> str:
    given_back = delivery.attempt - 1 - delivery.silent
    if not given_back:
        return "each time the worker fell silent"
    return f"the worker fell silent {delivery.silent} times, and gave it back to be tried again {given_back} times"


def _end(entry: Entry, dead: str = "", *, fenced: bool = True) -> Settlement:
    """The end of an entry of which there is no delivery to speak of."""
    attempts = entry.attempt + (entry.replayed.attempts if entry.replayed else 0)
    return Settlement(entry.account, entry.stream, entry.entry_id, Completion(), dead, fenced, attempts)


def _untimely(delivery: Delivery) -> NvpError | None:
    left_s = delivery.remaining_s
    if left_s <= 0:
        return DeadlineExceeded(f"deadline passed {-left_s:.1f} s before work began; allow more time or add a worker")
    if MAX_DEADLINE_S + CLOCKS_DIFFER_S < left_s < math.inf:
        days = MAX_DEADLINE_S / 86_400
        return InvalidInput(f"deadline {delivery.deadline}: nothing is kept so long; at most {days:.0f} days from now")
    return None
