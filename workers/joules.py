"""Energy around a piece of work: reserve before it, settle after it, whatever happens in between."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from nvp_agentkit.energy.accounts import Grant
from nvp_agentkit.energy.ledger import Ledger
from nvp_agentkit.energy.meter import modelled
from nvp_agentkit.errors import BudgetTooSmall
from nvp_agentkit.messages import Reading

from .compute.front import Answer

GRACE_MS = 60_000  # after the deadline: then `reap` takes what nobody settled


@dataclass
class Window:
    """One payer's share of one reservation."""

    grant: Grant
    part: str
    watts_per_core: float
    reading: Reading | None = field(default=None)

    @property
    def share_mj(self) -> int:
        """What this part may still spend: its share less what an earlier attempt used."""
        before = self.grant.parts_settled.get(self.part)
        return max(self.grant.share_mj - (before.used_mj if before else 0), 0)

    def afford(self, expected_mj: int, what: str) -> None:
        """Refuse before any work what will not fit.

        Raises:
            BudgetTooSmall: with the figure it would need.
        """
        if expected_mj > self.share_mj:
            needed = expected_mj * self.grant.parts / 1000
            raise BudgetTooSmall(
                f"{what} takes about {needed:.2f} J, {self.grant.granted_mj / 1000:.2f} J granted; "
                f"raise `budget_j` to {needed * 1.2:.2f} or more"
            )

    def charge(self, cost: Answer) -> Reading:
        """The reading of what the compute child reports; settled when the window closes."""
        self.reading = modelled(cost.cpu_s, cost.wall_s, cost.rss_gb, watts_per_core=self.watts_per_core)
        return self.reading


@asynccontextmanager
async def window(
    ledger: Ledger, account: str, reservation: str, budget_mj: int, *, part: str, parts: int, deadline_ms: int, watts_per_core: float
) -> AsyncIterator[Window]:
    """Reserve ``budget_mj`` (once for all parts), do the work, settle this part.

    An exception inside settles what was charged until then, so a refusal after the reservation costs nothing.

    Raises:
        InsufficientJoules: the account cannot pay.
    """
    grant = await ledger.reserve(account, reservation, budget_mj, parts=parts, expires_ms=deadline_ms + GRACE_MS)
    opened = Window(grant, part, watts_per_core)
    try:
        yield opened
    finally:
        before = grant.parts_settled.get(part)
        used = (before.used_mj if before else 0) + (opened.reading.mj if opened.reading else 0)
        await ledger.settle(account, reservation, part, used, seq=(before.seq if before else 0) + 1, final=True)
