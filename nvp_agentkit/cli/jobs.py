"""``nvp jobs``: what a stack has not ended yet, which goes on whoever stops waiting for it, and taking it back."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Annotated, Any

import typer

from nvp_agentkit.cli import deployment
from nvp_agentkit.cli.options import AsJson, DataDir, say_json
from nvp_agentkit.cli.owner import at_stack
from nvp_agentkit.energy.accounts import joules
from nvp_agentkit.messages.checks import MAX_DEADLINE_S

if TYPE_CHECKING:
    from redis.asyncio import Redis

    from nvp_agentkit.messages import Event
    from nvp_agentkit.settings import Settings

QUEUED, TAKEN = "queued", "taken"
app = typer.Typer(
    no_args_is_help=True,
    help="""Jobs that wait for a worker or are at work.

    [dim]Example:[/dim] nvp jobs list
    """,
)


@app.command("list")
def list_jobs(data_dir: DataDir = None, as_json: AsJson = False) -> None:
    """List jobs that wait or are at work, of all accounts.

    [dim]Example:[/dim] nvp jobs list --json
    """
    found = at_stack(deployment.settings_for(data_dir), lambda redis, _: not_ended(redis))
    if as_json:
        say_json([job.as_json() for job in found])
        return
    for job in found:
        typer.echo(str(job))
    if not found:
        typer.echo("no job waits or is at work")


@app.command()
def cancel(
    job: Annotated[str, typer.Argument(help="Its id, as `nvp jobs list` has it.", metavar="JOB")],
    reason: Annotated[str | None, typer.Option(help="Why, for who asked for it.", metavar="TEXT")] = None,
    data_dir: DataDir = None,
    as_json: AsJson = False,
) -> None:
    """Take a job back.

    Where it waits it is answered at once, where it is at work it stops at its next step: what it has used by then is
    charged, the rest of its joules is free again. A step that does not end is cut off.

    [dim]Example:[/dim] nvp jobs cancel 6f0c1c2e-2f5e-4d0a-9d53-1c4b6c1a7a10 --reason "wrong data"
    """
    found = at_stack(deployment.settings_for(data_dir), lambda redis, _: _cancelled(redis, job, reason))
    if as_json:
        say_json(found.as_json())
        return
    typer.echo(f"{found}: it is being cancelled")


async def _cancelled(redis: Redis, job_id: str, reason: str | None) -> Job:
    from nvp_agentkit.client.job import Job as Handle
    from nvp_agentkit.errors import UnknownName

    for one in await not_ended(redis):
        if one.job_id == job_id:
            await Handle(redis, one.account, job_id, one.deadline).cancel(reason)
            return one
    raise UnknownName(f"no job {job_id} waits or is at work; `nvp jobs list` shows those that do")


@dataclass(frozen=True)
class Job:
    """One of them, as it was when it last said something."""

    account: str
    job_id: str
    phase: str
    used_mj: int
    granted_mj: int
    deadline: float  # Unix seconds

    def __str__(self) -> str:
        spent = f"{joules(self.used_mj)} of at most {joules(self.granted_mj)}"
        return f"job {self.job_id} of {self.account}: {self.phase}, {spent}"

    def as_json(self) -> dict[str, Any]:
        return asdict(self)


async def not_ended(redis: Redis) -> list[Job]:
    """All that are at work, then all that wait for a worker."""
    return await under_way(redis) + await queued(redis)


async def queued(redis: Redis) -> list[Job]:
    """All that no worker has taken yet, the oldest hundred of each account."""
    from nvp_agentkit.streams.queue import waiting

    return await _asked(redis, waiting, QUEUED)


async def under_way(redis: Redis) -> list[Job]:
    """All that a worker has taken, also those that have told nothing yet: getting ready, or between two attempts."""
    from nvp_agentkit.streams.queue import in_hand

    told = await _told(redis)
    heard_of = {(job.account, job.job_id) for job in told}
    taken = await _asked(redis, in_hand, TAKEN)
    return told + [job for job in taken if (job.account, job.job_id) not in heard_of]


async def _asked(redis: Redis, look: Callable[[Redis, str, str], Awaitable[list[Event]]], phase: str) -> list[Job]:
    from nvp_agentkit.streams.accounts import known

    return [
        Job(account, event.id, phase, 0, event.budget_mj or 0, _until(event))
        for account in await known(redis)
        for suffix in ("urgent", "jobs")
        for event in await look(redis, account, suffix)
    ]


async def _told(redis: Redis) -> list[Job]:
    """All that hold joules and have told of their progress."""
    from nvp_agentkit.energy.ledger import Ledger
    from nvp_agentkit.messages import JobProgressed
    from nvp_agentkit.streams.progress import newest_line

    found = []
    for account, job_id in await Ledger(redis).open():
        line = await newest_line(redis, account, job_id)
        if line is not None and isinstance(told := line.payload, JobProgressed):
            found.append(Job(account, job_id, told.phase, told.used_mj, told.granted_mj, _until(line)))
    return found


def _until(event: Event) -> float:
    """The deadline of what is or speaks of a job; the longest where it has none."""
    return time.time() + MAX_DEADLINE_S if event.deadline is None else event.deadline.timestamp()


async def that_go_on(settings: Settings, account: str | None = None) -> str:
    """What a command that was interrupted leaves to a stack that is not its own, of ``account`` or of all, in words."""
    from nvp_agentkit.streams.connect import connect

    redis = await connect(settings)
    try:
        jobs = [str(job) for job in await under_way(redis) if account in (None, job.account)]
    finally:
        await redis.aclose()
    return f"the stack goes on with {'; '.join(jobs)} (`nvp status`)" if jobs else "the stack goes on"
