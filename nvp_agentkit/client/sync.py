"""`AgentClient` for code without an event loop: the same calls, blocking."""

from __future__ import annotations

import asyncio
import functools
from collections.abc import Callable, Coroutine, Iterator
from typing import Any, Concatenate, ParamSpec, Self, TypeVar

from nvp_agentkit.client.agent import AgentClient
from nvp_agentkit.client.job import Job
from nvp_agentkit.messages import JobCompleted, JobProgressed
from nvp_agentkit.settings import Settings

P = ParamSpec("P")
T = TypeVar("T")


class SyncJob:
    """``for progress in job``, then ``job.result()``."""

    def __init__(self, job: Job, runner: asyncio.Runner) -> None:
        self._job = job
        self._runner = runner
        self.id = job.id

    def __repr__(self) -> str:
        return f"Sync{self._job!r}"

    def __iter__(self) -> Iterator[JobProgressed]:
        lines = aiter(self._job)
        while (line := self._runner.run(_next(lines))) is not None:
            yield line

    def cancel(self, reason: str | None = None) -> None:
        """As `Job.cancel`."""
        self._runner.run(self._job.cancel(reason))

    def result(self) -> JobCompleted:
        """As `Job.result`."""
        return self._runner.run(self._job.result())


def _blocking(
    call: Callable[Concatenate[AgentClient, P], Coroutine[Any, Any, T]],
) -> Callable[Concatenate[SyncAgentClient, P], T]:
    """``call`` with the same words and the same documentation, waited for."""

    @functools.wraps(call)
    def waiting(self: SyncAgentClient, /, *args: P.args, **words: P.kwargs) -> T:
        return self._run(call(self._client, *args, **words))

    return waiting


def _starting(
    call: Callable[Concatenate[AgentClient, P], Coroutine[Any, Any, Job]],
) -> Callable[Concatenate[SyncAgentClient, P], SyncJob]:
    """As `_blocking`, and the job is one to wait for."""

    @functools.wraps(call)
    def starting(self: SyncAgentClient, /, *args: P.args, **words: P.kwargs) -> SyncJob:
        return SyncJob(self._run(call(self._client, *args, **words)), self._runner)

    return starting


class SyncAgentClient:
    """``with SyncAgentClient.connect(account="ace-1") as nvp: ...``; see `AgentClient` for each call."""

    def __init__(self, client: AgentClient) -> None:
        self._client = client
        self._runner = asyncio.Runner()
        self.account = client.account

    @classmethod
    def connect(cls, account: str | None = None, *, settings: Settings | None = None) -> Self:
        return cls(AgentClient.connect(account, settings=settings))

    def __enter__(self) -> Self:
        try:
            self._run(self._client.__aenter__())
        except BaseException:
            self._runner.close()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        try:
            self._run(self._client.__aexit__())
        finally:
            self._runner.close()

    predict = _blocking(AgentClient.predict)
    result = _blocking(AgentClient.result)
    frames = _blocking(AgentClient.frames)
    recorded = _blocking(AgentClient.recorded)
    simulate = _starting(AgentClient.simulate)
    import_file = _starting(AgentClient.import_file)
    bring = _blocking(AgentClient.bring)
    train = _starting(AgentClient.train)
    evaluate = _starting(AgentClient.evaluate)
    hindcast = _starting(AgentClient.hindcast)
    submit = _starting(AgentClient.submit)
    domains = _blocking(AgentClient.domains)
    models = _blocking(AgentClient.models)
    promote = _blocking(AgentClient.promote)
    rollback = _blocking(AgentClient.rollback)

    @functools.wraps(AgentClient.job)
    def job(self, job_id: str, **words: float) -> SyncJob:
        return SyncJob(self._client.job(job_id, **words), self._runner)

    def _run(self, work: Coroutine[Any, Any, T]) -> T:
        return self._runner.run(work)


async def _next(lines: Any) -> JobProgressed | None:
    return await anext(lines, None)
