"""What the tour travels with: one running stack, one account, one dataset, one trained ensemble. Each is made once.

Read the files in their order; each is a chapter.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from redis.asyncio import Redis

from nvp_agentkit.cli import deployment
from nvp_agentkit.client import AgentClient, SyncAgentClient
from nvp_agentkit.client.place import find
from nvp_agentkit.embedded.stack import StackEvent
from nvp_agentkit.energy.ledger import Ledger
from nvp_agentkit.errors import BudgetTooSmall
from nvp_agentkit.lineage.graph import Graph
from nvp_agentkit.messages import JobCompleted, JobProgressed, ObjectRef
from nvp_agentkit.settings import Settings
from nvp_agentkit.streams.connect import connect

ACCOUNT = "ace-1"
DOMAIN = "plasma_physics"
LIMIT_J = 600.0


@dataclass(frozen=True)
class Stack:
    """A running stack: the stores, the workers, and what they said while they came up."""

    settings: Settings
    events: list[StackEvent]

    def agent(self) -> AgentClient:
        """A client for the tour's account; it finds the stack by the data folder alone."""
        return AgentClient.connect(ACCOUNT, settings=self.settings)


@dataclass(frozen=True)
class Dataset:
    """What a finished job left behind: where the data is, and what is known of it."""

    ref: ObjectRef
    job: JobCompleted


@dataclass(frozen=True)
class Ensemble:
    """A finished training: its last word, and the progress on the way."""

    job: JobCompleted
    story: list[JobProgressed]
    budget_j: float


@pytest.fixture(scope="session")
def stack(tmp_path_factory: pytest.TempPathFactory, compile_cache: Path) -> Iterator[Stack]:
    """`nvp up`, with an account: real stores and the six worker processes, on a data folder of their own."""
    settings = Settings(data_dir=tmp_path_factory.mktemp("tour") / "nvp")
    settings.data_dir.mkdir()
    (settings.data_dir / "compile-cache").symlink_to(compile_cache)
    events: list[StackEvent] = []
    with asyncio.Runner(loop_factory=asyncio.new_event_loop) as loop:
        running = deployment.supervisor(settings, events.append)
        started = loop.run(running.start())
        try:
            loop.run(running.ready(timeout_s=120))
            loop.run(_open_account(started))
            yield Stack(settings, events)
        finally:
            loop.run(running.stop())


async def _open_account(settings: Settings) -> None:
    """``nvp account create ace-1 --limit-j 600``"""
    async with redis_at(settings) as redis:
        await deployment.open_account(redis, settings, ACCOUNT, limit_mj=round(1000 * LIMIT_J), owner="the tour")


@pytest.fixture(scope="session")
def dataset(stack: Stack) -> Dataset:
    """Six short trajectories of plasma turbulence, 32 x 32."""
    with SyncAgentClient.connect(ACCOUNT, settings=stack.settings) as nvp:
        job = nvp.simulate(DOMAIN, budget_j=60, trajectories=6, frames=16, size=32, seed=7).result()
    assert job.dataset is not None
    return Dataset(job.dataset, job)


@pytest.fixture(scope="session")
def ensemble(stack: Stack, dataset: Dataset) -> Ensemble:
    """Three members, trained for little more than the least that is accepted."""
    with SyncAgentClient.connect(ACCOUNT, settings=stack.settings) as nvp:
        with pytest.raises(BudgetTooSmall) as refused:
            nvp.train(DOMAIN, data=dataset.ref, budget_j=1).result()
        budget_j = 1.3 * (refused.value.needed_mj or 0) / 1000
        training = nvp.train(DOMAIN, data=dataset.ref, budget_j=budget_j)
        story = list(training)
        return Ensemble(training.result(), story, budget_j)


@pytest.fixture(scope="session")
def field(stack: Stack, dataset: Dataset, ensemble: Ensemble) -> np.ndarray:
    """Two frames of a trajectory that no member has seen, shape (2, 32, 32)."""
    held_out = ensemble.job.summary
    with SyncAgentClient.connect(ACCOUNT, settings=stack.settings) as nvp:
        return nvp.frames(
            dataset.ref, trajectory=int(held_out["held_out_trajectory"]), first=int(held_out["held_out_frame"]), count=2
        )


@pytest.fixture
async def owner(stack: Stack) -> AsyncIterator[Redis]:
    """The stream server, as the stack's owner sees it."""
    async with redis_at(find(stack.settings).settings) as redis:
        yield redis


@pytest.fixture
def ledger(owner: Redis) -> Ledger:
    """The joule ledger."""
    return Ledger(owner)


@pytest.fixture
async def graph(stack: Stack) -> AsyncIterator[Graph]:
    """The lineage graph."""
    async with Graph.connect(find(stack.settings).settings) as connected:
        yield connected


@pytest.fixture
async def login(stack: Stack) -> AsyncIterator[Redis]:
    """The stream server for a program of the account's own, with the account's password and no client of ours."""
    async with redis_at(find(stack.settings, ACCOUNT).settings) as redis:
        yield redis


@asynccontextmanager
async def redis_at(settings: Settings) -> AsyncIterator[Redis]:
    redis = await connect(settings)
    try:
        yield redis
    finally:
        await redis.aclose()


@pytest.fixture
def agent(stack: Stack) -> Callable[[], AgentClient]:
    return stack.agent
