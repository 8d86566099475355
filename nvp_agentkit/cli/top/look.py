"""What a stack is at, in one look: workers, streams, jobs, joules."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

from nvp_agentkit.cli.deployment import WORKERS

if TYPE_CHECKING:
    from redis.asyncio import Redis

    from nvp_agentkit.cli.jobs import Job
    from nvp_agentkit.energy.accounts import Balance
    from nvp_agentkit.streams.health import WorkerState
    from nvp_agentkit.streams.lag import Lag


@dataclass(frozen=True)
class Queue:
    """One group on the streams of one kind, all accounts together; ``read`` counts what was ever delivered to it."""

    stream: str
    group: str
    waiting: int
    in_hand: int
    oldest_s: float
    dead: int
    read: int
    busiest: str  # account with most that waits; empty where nothing does

    @classmethod
    def of(cls, lags: Sequence[Lag]) -> Queue:
        busiest = max(lags, key=lambda one: one.waiting)
        return cls(
            lags[0].suffix,
            lags[0].group,
            sum(one.waiting for one in lags),
            sum(one.pending for one in lags),
            max(one.oldest_s for one in lags),
            sum(one.dead for one in lags),
            sum(one.read for one in lags),
            busiest.account if busiest.waiting else "",
        )


@dataclass(frozen=True)
class Seen:
    """What was seen at one moment."""

    workers: Sequence[WorkerState]
    queues: Sequence[Queue]
    jobs: Sequence[Job]
    balances: Sequence[Balance]
    at_s: float = field(default_factory=time.monotonic)

    @property
    def missing(self) -> list[str]:
        """Workers of a stack that nobody has heard of."""
        return [name for name in WORKERS if name not in {one.name for one in self.workers}]

    def as_json(self) -> dict[str, Any]:
        return {
            "workers": [asdict(one) for one in self.workers],
            "missing": self.missing,
            "streams": [asdict(one) for one in self.queues],
            "jobs": [job.as_json() for job in self.jobs],
            "accounts": [asdict(one) | {"free_mj": one.free_mj} for one in self.balances],
        }


async def look(redis: Redis) -> Seen:
    """Look once."""
    from nvp_agentkit.cli.jobs import not_ended
    from nvp_agentkit.streams.accounts import known
    from nvp_agentkit.streams.health import workers
    from nvp_agentkit.streams.lag import lags

    seen, found, jobs, accounts = await asyncio.gather(workers(redis), lags(redis), not_ended(redis), known(redis))
    by_group: dict[tuple[str, str], list[Lag]] = {}
    for one in found:
        by_group.setdefault((one.suffix, one.group), []).append(one)
    balances = await asyncio.gather(*(_balance(redis, account) for account in accounts))
    return Seen(seen, [Queue.of(one) for one in by_group.values()], jobs, [one for one in balances if one is not None])


async def _balance(redis: Redis, account: str) -> Balance | None:
    """None for an account that was opened half way and has no joules."""
    from nvp_agentkit.energy.ledger import Ledger
    from nvp_agentkit.errors import UnknownAccount

    try:
        return await Ledger(redis).balance(account)
    except UnknownAccount:
        return None
