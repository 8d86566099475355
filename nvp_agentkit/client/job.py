"""A job on its way: progress to iterate over, a result to wait for."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from datetime import UTC, datetime

from redis.asyncio import Redis

from nvp_agentkit.client.limits import ANSWER_S, about, said, within
from nvp_agentkit.errors import BudgetExhausted, BudgetTooSmall, NvpError, from_wire
from nvp_agentkit.messages import (
    JobCancelRequested,
    JobCompleted,
    JobFailed,
    JobProgressed,
    JobRefused,
    JobSuspended,
    new_event,
)
from nvp_agentkit.messages.envelope import TYPE_OF
from nvp_agentkit.streams.progress import follow
from nvp_agentkit.streams.replies import publish

GRACE_S = 2.0  # after the deadline, for the word that the job was ended at it
FINALS = tuple(TYPE_OF[kind] for kind in (JobCompleted, JobRefused, JobSuspended, JobFailed))


@dataclass
class Job:
    """``async for progress in job``, then ``await job.result()``. A late or second reader sees it all again."""

    redis: Redis = field(repr=False)
    account: str
    id: str
    deadline: float
    _outcome: JobCompleted | NvpError | None = None

    async def __aiter__(self) -> AsyncIterator[JobProgressed]:
        left_s = self.deadline - time.time() + GRACE_S
        async for event in follow(self.redis, self.account, self.id, finals=FINALS, timeout_s=left_s):
            match event.payload:
                case JobProgressed() as progress:
                    yield progress
                case JobCompleted() as done:
                    self._outcome = done
                case JobRefused(code=BudgetTooSmall.code, detail=detail, needed_mj=needed_mj):
                    self._outcome = BudgetTooSmall(detail, needed_mj=needed_mj)
                case JobRefused(code=code, detail=detail, retry_after_s=retry_after_s):
                    self._outcome = from_wire(code, detail, retry_after_s)
                case JobFailed(code=code, detail=detail):
                    self._outcome = from_wire(code, detail)
                case JobSuspended(reason=reason):
                    self._outcome = BudgetExhausted(
                        f"job {self.id} is suspended ({reason}); top the account up and resume it"
                    )

    async def cancel(self, reason: str | None = None) -> None:
        """Take the job back. Where it waits it ends at once; where it runs, at its next step, paid until then.

        `result` raises `Cancelled` from then on, unless the job was done before; nothing is cancelled twice.

        Raises:
            InvalidInput: more than 200 characters of reason.
            StoreUnavailable: it could not be said; say it again.
        """
        asked = said(JobCancelRequested, job_id=self.id, reason=reason)
        until = datetime.fromtimestamp(self.deadline, UTC)
        event = new_event(asked, source=f"nvp:agent:{self.account}", deadline=until)
        async with within(ANSWER_S):
            await publish(self.redis, self.account, "cancel", event)

    async def result(self) -> JobCompleted:
        """Wait for the end. Whoever stops waiting (Ctrl-C) does not stop the job: it goes on within its budget.

        Raises:
            Cancelled: it was taken back.
            NvpError: the job was refused or failed, as the class that its code names; a `BudgetTooSmall` says
                how much would do (``needed_mj``).
            DeadlineExceeded: no final word before the job's deadline.
        """
        with about(self.id):
            if self._outcome is None:
                async for _ in self:
                    pass
            if isinstance(self._outcome, JobCompleted):
                return self._outcome
            raise self._outcome or NvpError(f"job {self.id} ended without a word")
