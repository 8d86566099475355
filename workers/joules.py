"""Energy around a piece of work: reserve before it, settle after it, whatever happens in between."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

from nvp_agentkit.energy.accounts import Grant, joules
from nvp_agentkit.energy.ledger import Ledger
from nvp_agentkit.energy.meter import modelled
from nvp_agentkit.errors import BudgetTooSmall, NvpError
from nvp_agentkit.messages import Reading

from .compute.front import Answer

UNSEEN_S = 0.5  # between two settlements of a job's progress
GRACE_MS = 60_000  # after the deadline: then `reap` takes what nobody settled


@dataclass
class Window:
    """One payer's share of one reservation, from its first use to its last word."""

    ledger: Ledger
    grant: Grant
    part: str
    watts_per_core: float
    used_mj: int = 0  # by this attempt, as far as it is known
    _seq: int = 0

    def __post_init__(self) -> None:
        earlier = self.grant.parts_settled.get(self.part)
        self._seq = earlier.seq if earlier else 0

    @property
    def before_mj(self) -> int:
        """What earlier attempts at this message used; one that died mid-way is charged its last interval as well."""
        earlier = self.grant.parts_settled.get(self.part)
        return 0 if earlier is None else earlier.used_mj + self._unseen_mj

    @property
    def share_mj(self) -> int:
        """What this part may still spend."""
        return max(self.grant.share_mj - self.before_mj, 0)

    def afford(self, expected_mj: int, what: str) -> None:
        """Refuse before any work what will not fit.

        Raises:
            BudgetTooSmall: with the figure it would need.
        """
        if expected_mj > self.share_mj:
            needed_mj = expected_mj * self.grant.parts
            raise BudgetTooSmall(
                f"{what} takes about {joules(expected_mj)}, {joules(self.share_mj)} of {joules(self.grant.granted_mj)} "
                f"fall to it; raise `budget_j` to {needed_mj * 1.2 / 1000:.2f} or more",
                needed_mj=needed_mj,
            )

    def charge(self, cost: Answer) -> Reading:
        """The reading of what the compute child reports; settled when the window closes."""
        reading = modelled(cost.cpu_s, cost.wall_s, cost.rss_gb, watts_per_core=self.watts_per_core)
        self.used_mj = reading.mj
        return reading

    async def settle(self, *, final: bool) -> None:
        """Charge what this attempt has used so far, on top of what earlier ones did."""
        self._seq += 1
        total = self.before_mj + self.used_mj
        await self.ledger.settle(
            self.grant.account, self.grant.reservation, self.part, total, seq=self._seq, final=final
        )

    @property
    def _unseen_mj(self) -> int:
        """At most what a dead attempt used between its last settlement and its end: errs high."""
        return round(1000 * UNSEEN_S * self.watts_per_core * (os.cpu_count() or 1))


@asynccontextmanager
async def window(
    ledger: Ledger,
    account: str,
    reservation: str,
    budget_mj: int,
    *,
    part: str,
    parts: int,
    deadline_ms: int,
    watts_per_core: float,
) -> AsyncIterator[Window]:
    """Reserve ``budget_mj`` (once for all parts), do the work, settle this part.

    Work that was refused or failed for good settles what it used until then; work that will be tried again
    (a retryable error, a cancellation) keeps its reservation for the next attempt.

    Raises:
        InsufficientJoules: the account cannot pay.
    """
    grant = await ledger.reserve(account, reservation, budget_mj, parts=parts, expires_ms=deadline_ms + GRACE_MS)
    opened = Window(ledger, grant, part, watts_per_core)
    try:
        yield opened
    except NvpError as error:
        await opened.settle(final=not error.retryable)
        raise
    await opened.settle(final=True)
