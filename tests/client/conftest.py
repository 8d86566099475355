"""An account at the stream server, and a test in the worker's place: what it answers is what the client gets."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
from redis.asyncio import Redis

from nvp_agentkit.client import AgentClient
from nvp_agentkit.energy.ledger import Ledger
from nvp_agentkit.messages import Event, Payload, decode, new_event
from nvp_agentkit.settings import Settings
from nvp_agentkit.streams import Completion, emit, names, register


@dataclass(frozen=True)
class Desk:
    """Where the account's requests arrive and are answered."""

    redis: Redis
    account: str

    async def received(self, suffix: str = "predict") -> Event:
        """The oldest request, once there is one."""
        async with asyncio.timeout(20):
            while not (entries := await self.redis.xrange(names.key(self.account, suffix), count=1)):  # noqa: ASYNC110
                await asyncio.sleep(0.01)
        return decode(entries[0][1][b"event"])

    async def sent(self) -> int:
        """How many requests were ever published."""
        return sum([await self.redis.xlen(names.key(self.account, kind)) for kind in ("predict", "ensemble", "jobs")])

    async def answer(self, payload: Payload, request_id: str) -> None:
        event = new_event(payload, source="nvp:worker:tests", replyto=request_id)
        await emit(self.redis, self.account, Completion(replies=(event,)))

    async def reply_to_next(self, kind: type[Payload], suffix: str = "predict", **values: Any) -> str:
        """Wait for a request and answer it; its id."""
        request = await self.received(suffix)
        name = "job_id" if suffix == "jobs" else "request_id"
        await self.answer(kind(**{name: request.id, **values}), request.id)
        return request.id


@pytest.fixture
async def desk(redis: Redis, account: str) -> Desk:
    await register(redis, account, owner="tests")
    await Ledger(redis).create(account, 100_000)
    return Desk(redis, account)


@pytest.fixture
async def nvp(desk: Desk, settings: Settings) -> AsyncIterator[AgentClient]:
    async with AgentClient.connect(desk.account, settings=settings) as client:
        yield client


@pytest.fixture
def field() -> np.ndarray:
    return np.random.default_rng(0).random((2, 16, 16), np.float32)
