"""Energy around a piece of work: reserve before it, settle after it, whatever happens in between."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from functools import partial

import structlog

from nvp_agentkit.energy.accounts import Grant, joules
from nvp_agentkit.energy.ledger import Ledger
from nvp_agentkit.energy.meter import add, modelled
from nvp_agentkit.errors import (
    BudgetExhausted,
    BudgetTooSmall,
    ConflictingFact,
    InsufficientJoules,
    InvalidInput,
    NvpError,
    UnknownName,
)
from nvp_agentkit.messages import Reading
from nvp_agentkit.streams import AWAY, Delivery, RedisError
from nvp_agentkit.streams.handling import defect

from .compute.cost import Cost
from .compute.front import LOOK_EVERY_S
from .patience import patiently
from .system import System, budget_of, deadline_of

UNSEEN_S = 0.5  # between two settlements of a job at work
GRACE_MS = 60_000  # after the deadline: then `reap` takes what nobody settled
REFUSALS = (InvalidInput, UnknownName, BudgetTooSmall, InsufficientJoules)  # said before work begins: they cost nothing
log = structlog.get_logger()


@dataclass
class Window:
    """One payer's share of one reservation, from its first use to its last word.

    An attempt settles under odd numbers while it works and under an even one when it leaves: so the next one knows
    whether the figure it finds is the last word of an attempt, or only what it had said before it died. Once the next
    one has begun, the ledger no longer listens to this one: a worker that lost its lease settles nothing.
    """

    ledger: Ledger
    grant: Grant
    part: str
    watts_per_core: float
    counted: Callable[[float], None] = lambda _: None  # told the joules of each settlement
    used_mj: int = 0  # by this attempt, as far as it is known
    _said_mj: int = 0  # of it, as far as it is settled: a total never goes down
    _counted_mj: int = 0
    _seq: int = 0
    _begun: asyncio.Event = field(default_factory=asyncio.Event)
    _own: Reading | None = None

    def __post_init__(self) -> None:
        earlier = self.grant.parts_settled.get(self.part)
        self._seq = earlier.seq if earlier else 0

    @property
    def before_mj(self) -> int:
        """What earlier attempts used; one that died at work is charged its last interval as well."""
        earlier = self.grant.parts_settled.get(self.part)
        if earlier is None:
            return 0
        return earlier.used_mj + (self._unseen_mj if earlier.seq % 2 else 0)

    @property
    def share_mj(self) -> int:
        """What this part may still spend."""
        return max(self.grant.share_mj - self.before_mj, 0)

    def afford(self, expected_mj: int, what: str) -> None:
        """Refuse before any work what will not fit.

        Raises:
            BudgetTooSmall: with the figure it would need.
            BudgetExhausted: it would have fitted, had earlier attempts not used so much.
        """
        if expected_mj > self.share_mj:
            if self.before_mj:
                raise BudgetExhausted(
                    f"{what} takes about {joules(expected_mj)}, {joules(self.share_mj)} are left, "
                    f"earlier attempts used {joules(self.before_mj)}; ask again, or raise `budget_j`"
                )
            needed_mj = expected_mj * self.grant.parts
            raise BudgetTooSmall(
                f"{what} takes about {joules(expected_mj)}, {joules(self.share_mj)} of {joules(self.grant.granted_mj)} "
                f"fall to it; raise `budget_j` to {needed_mj * 1.2 / 1000:.2f} or more",
                needed_mj=needed_mj,
            )

    @property
    def margin_mj(self) -> int:
        """What the work itself leaves of its share, so that it stops before it would be ended."""
        return 2 * self._between_looks_mj

    def too_much(self, cost: Cost) -> bool:
        """Whether the work must end now, or could be over its share at the next look."""
        self._seen(self._reading(cost).mj)
        # A share that is itself no more than a few looks shall still last long enough to be refused in words.
        return self.used_mj > max(self.share_mj - self._between_looks_mj, 0.75 * self.share_mj)

    def progressed(self, used_mj: int) -> None:
        """The work tells of itself. It has begun: it is charged from now on, and no more refused for nothing."""
        self._seen(used_mj)
        self._begun.set()

    def _seen(self, used_mj: int) -> None:
        self.used_mj = max(self.used_mj, used_mj)

    def charge(self, cost: Cost) -> Reading:
        """Charge what the work cost in all, settled when the window closes; the reading of all attempts."""
        own = self._reading(cost)
        self.used_mj = max(own.mj, self._said_mj)
        self._own = own.model_copy(update={"mj": self.used_mj, "hi_mj": max(own.hi_mj, self.used_mj)})
        return add([*self._earlier, self._own])

    def spent(self, cost: Cost) -> None:
        """Charge a first part of the work, whatever becomes of the rest."""
        self.charge(cost)
        self._begun.set()

    def forgive(self) -> None:
        """Take back what it cost to find out that the answer is no; not what was begun."""
        if not self._begun.is_set():
            self.used_mj, self._own = 0, None

    @property
    def reading(self) -> Reading | None:
        """What this and earlier attempts used, as it was charged; None where that is nothing."""
        known = [*self._earlier, *([] if self._own is None else [self._own])]
        return add(known) if known else None

    @property
    def _earlier(self) -> list[Reading]:
        """Earlier attempts are known by their joules alone."""
        cpu_s = self.before_mj / (1000 * self.watts_per_core)
        return [modelled(cpu_s, watts_per_core=self.watts_per_core)] if cpu_s else []

    def _reading(self, cost: Cost) -> Reading:
        return modelled(cost.cpu_s, cost.wall_s, cost.rss_gb, watts_per_core=self.watts_per_core)

    @property
    def _between_looks_mj(self) -> int:
        """At most what all cores use between two looks at the child, and until it is gone."""
        return self._full_power_mj(2 * LOOK_EVERY_S)

    @asynccontextmanager
    async def kept_settled(self) -> AsyncIterator[None]:
        """Settle what the work inside uses while it goes on, at least every `UNSEEN_S`: its worker may die."""
        settling = asyncio.create_task(self._keep_settling())
        try:
            yield
        finally:
            settling.cancel()
            await asyncio.gather(settling, return_exceptions=True)

    async def _keep_settling(self) -> None:
        await self._begun.wait()
        while True:
            try:
                await self.settle()
            except (NvpError, RedisError) as error:
                log.warning("use not settled", reason=str(error))
            await asyncio.sleep(UNSEEN_S / 2)

    async def settle(self) -> None:
        """Charge what this attempt has used so far, on top of what earlier ones did. It goes on."""
        await self._settle(at_work=True, final=False)

    async def close(self, *, final: bool) -> None:
        """Charge what this attempt has used in all; unless ``final``, another one may follow."""
        await self._settle(at_work=False, final=final)

    async def _settle(self, *, at_work: bool, final: bool) -> None:
        self._seq += 1 if self._seq % 2 != at_work else 2
        self._said_mj = max(self._said_mj, self.used_mj)
        total = self.before_mj + self._said_mj
        await self.ledger.settle(
            self.grant.account,
            self.grant.reservation,
            self.part,
            total,
            seq=self._seq,
            final=final,
            fence=self.grant.fences[self.part],
            rest=not at_work,
        )
        self.counted((self._said_mj - self._counted_mj) / 1000)
        self._counted_mj = self._said_mj

    @property
    def _unseen_mj(self) -> int:
        """At most what a dead attempt used between its last settlement and its end: errs high."""
        return self._full_power_mj(UNSEEN_S)

    def _full_power_mj(self, seconds: float) -> int:
        return round(1000 * seconds * self.watts_per_core * (os.cpu_count() or 1))


def together(readings: Sequence[Reading]) -> Reading:
    """What several voters used. Unlike sensors add up as well, and the sum says that it is of several."""
    if len({(reading.method, reading.sensor, reading.domain, reading.calibration_id) for reading in readings}) == 1:
        return add(readings)
    return add(
        reading.model_copy(update={"method": "modelled", "sensor": "several", "domain": "all", "calibration_id": ""})
        for reading in readings
    )


@asynccontextmanager
async def window(system: System, delivery: Delivery, *, part: str, parts: int) -> AsyncIterator[Window]:
    """Reserve the request's budget (once for all parts), do the work, settle this part.

    Work that failed for good is charged what it used until then, a refusal nothing; work that will be tried again
    (a retryable error, a cancellation) keeps its reservation for the next attempt. Whatever the answer is made of
    belongs inside: work that is done again is charged again.

    Raises:
        InsufficientJoules: the account cannot pay.
        ConflictingFact: the reservation is closed for good, for its time was over; or a later attempt has begun.
    """
    grant = await system.ledger.reserve(
        delivery.account,
        delivery.request_id,
        budget_of(delivery),
        parts=parts,
        part=part,
        attempt=delivery.earlier + delivery.attempt,
        expires_ms=round(deadline_of(delivery) * 1000) + GRACE_MS,
    )
    if grant.state != "open":
        raise ConflictingFact(
            f"request {delivery.request_id}: its {joules(grant.granted_mj)} were {grant.state} when its time was over; "
            "ask again under an id of its own"
        )
    opened = Window(system.ledger, grant, part, system.settings.watts_per_core, system.metrics.charged.inc)
    try:
        yield opened
    except REFUSALS as error:
        opened.forgive()
        error.energy = opened.reading
        await opened.close(final=True)
        raise
    except NvpError as error:
        error.energy = opened.reading
        await opened.close(final=not error.retryable)
        raise
    except (*AWAY, asyncio.CancelledError):
        with suppress(NvpError, RedisError):  # of the ledger: then what was settled last stands, and the next errs high
            await opened.close(final=False)
        raise
    except Exception as error:  # answered, not tried again
        failed = defect(error, f"{delivery.account}/{delivery.request_id}")
        failed.energy = opened.reading
        await opened.close(final=True)
        raise failed from error
    await patiently(delivery, partial(opened.close, final=True), failed="last word not settled yet")


async def close_earlier(system: System, delivery: Delivery, *, part: str) -> None:
    """Settle what an earlier attempt used of a request that needs no more; left open that may cost a whole share."""
    grant = await system.ledger.grant(delivery.account, delivery.request_id)
    if grant is not None and grant.state == "open":
        async with window(system, delivery, part=part, parts=1):
            pass
