"""Jobs that a stack has begun and not ended: they go on whoever stops waiting for them."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from nvp_agentkit.energy.accounts import joules

if TYPE_CHECKING:
    from redis.asyncio import Redis

    from nvp_agentkit.settings import Settings


@dataclass(frozen=True)
class Job:
    """One of them, as it was when it last said something."""

    account: str
    job_id: str
    phase: str
    used_mj: int
    granted_mj: int

    def __str__(self) -> str:
        spent = f"{joules(self.used_mj)} of at most {joules(self.granted_mj)}"
        return f"job {self.job_id} of {self.account}: {self.phase}, {spent}"

    def as_json(self) -> dict[str, Any]:
        return asdict(self)


async def under_way(redis: Redis) -> list[Job]:
    """All that hold joules and have told of their progress."""
    from nvp_agentkit.energy.ledger import Ledger
    from nvp_agentkit.messages import JobProgressed
    from nvp_agentkit.streams.progress import newest_line

    found = []
    for account, job_id in await Ledger(redis).open():
        line = await newest_line(redis, account, job_id)
        if line is not None and isinstance(told := line.payload, JobProgressed):
            found.append(Job(account, job_id, told.phase, told.used_mj, told.granted_mj))
    return found


async def that_go_on(settings: Settings, account: str | None = None) -> str:
    """What a command that was interrupted leaves to a stack that is not its own, of ``account`` or of all, in words."""
    from nvp_agentkit.streams.connect import connect

    redis = await connect(settings)
    try:
        jobs = [str(job) for job in await under_way(redis) if account in (None, job.account)]
    finally:
        await redis.aclose()
    return f"the stack goes on with {'; '.join(jobs)} (`nvp status`)" if jobs else "the stack goes on"
