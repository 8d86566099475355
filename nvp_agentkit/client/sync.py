"""`AgentClient` for code without an event loop: the same calls, blocking."""

from __future__ import annotations

import asyncio
import functools
from collections.abc import Coroutine, Iterator
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Self, TypeVar

from nvp_agentkit.client.agent import PREDICTION_DEADLINE_S, AgentClient
from nvp_agentkit.client.forecast import Forecast
from nvp_agentkit.client.job import Job
from nvp_agentkit.messages import JobCompleted, JobProgressed, ObjectRef
from nvp_agentkit.settings import Settings

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import ArrayLike, NDArray

T = TypeVar("T")


class SyncJob:
    """``for progress in job``, then ``job.result()``."""

    def __init__(self, job: Job, runner: asyncio.Runner) -> None:
        self._job = job
        self._runner = runner
        self.id = job.id

    def __iter__(self) -> Iterator[JobProgressed]:
        lines = aiter(self._job)
        while (line := self._runner.run(_next(lines))) is not None:
            yield line

    def result(self) -> JobCompleted:
        """As `Job.result`."""
        return self._runner.run(self._job.result())


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

    @functools.wraps(AgentClient.predict)
    def predict(
        self,
        field: ArrayLike,
        *,
        domain: str,
        budget_j: float | None = None,
        assurance: Literal["single", "quorum"] = "single",
        units: str = "1",
        model: str | None = None,
        frame_time: datetime | np.datetime64 | None = None,
        dt_s: float | None = None,
        dx_m: float | None = None,
        deadline_s: float = PREDICTION_DEADLINE_S,
    ) -> Forecast:
        return self._run(
            self._client.predict(
                field,
                domain=domain,
                budget_j=budget_j,
                assurance=assurance,
                units=units,
                model=model,
                frame_time=frame_time,
                dt_s=dt_s,
                dx_m=dx_m,
                deadline_s=deadline_s,
            )
        )

    @functools.wraps(AgentClient.simulate)
    def simulate(self, domain: str, *, budget_j: float | None = None, **parameters: Any) -> SyncJob:
        return self._job(self._client.simulate(domain, budget_j=budget_j, **parameters))

    @functools.wraps(AgentClient.import_file)
    def import_file(
        self, path: Path | str, *, domain: str, budget_j: float | None = None, **parameters: Any
    ) -> SyncJob:
        return self._job(self._client.import_file(path, domain=domain, budget_j=budget_j, **parameters))

    @functools.wraps(AgentClient.train)
    def train(self, domain: str, *, data: ObjectRef, budget_j: float | None = None, **parameters: Any) -> SyncJob:
        return self._job(self._client.train(domain, data=data, budget_j=budget_j, **parameters))

    @functools.wraps(AgentClient.frames)
    def frames(self, dataset: ObjectRef, *, trajectory: int = 0, first: int = 0, count: int = 2) -> NDArray[Any]:
        return self._run(self._client.frames(dataset, trajectory=trajectory, first=first, count=count))

    @functools.wraps(AgentClient.recorded)
    def recorded(self, *, timeout_s: float = 30.0) -> None:
        self._run(self._client.recorded(timeout_s=timeout_s))

    def _job(self, asked: Coroutine[Any, Any, Job]) -> SyncJob:
        return SyncJob(self._run(asked), self._runner)

    def _run(self, work: Coroutine[Any, Any, T]) -> T:
        return self._runner.run(work)


async def _next(lines: Any) -> JobProgressed | None:
    return await anext(lines, None)
