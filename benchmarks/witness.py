"""An agent that writes down what a stack has acknowledged, and asks for all of it after the stack was killed."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
from redis.asyncio import Redis
from redis.exceptions import RedisError

from nvp_agentkit.artifacts import inline_array
from nvp_agentkit.cli import deployment
from nvp_agentkit.client import AgentClient
from nvp_agentkit.client.place import find
from nvp_agentkit.energy.ledger import Ledger
from nvp_agentkit.errors import NvpError
from nvp_agentkit.lineage.graph import Graph
from nvp_agentkit.messages import PredictionCompleted, PredictionRequested, new_event
from nvp_agentkit.messages.envelope import TYPE_OF
from nvp_agentkit.settings import Settings
from nvp_agentkit.streams.connect import connect
from nvp_agentkit.streams.replies import answer, publish
from nvp_agentkit.streams.watermark import passed

ACCOUNT, DOMAIN = "witness", "plasma_physics"
LIMIT_MJ, TOP_UP_MJ, BUDGET_J = 1_000_000, 1000, 5
PAUSE_S = 0.2  # between two requests; each is a forecast that has to be made
ANSWERED_WITHIN_S = 60.0  # of requests whose worker was killed: their lease has to run out first
TROUBLE = (NvpError, RedisError, OSError)


class Witness:
    """What was promised on one data folder: joules in the ledger, requests on the stream, answers, facts."""

    def __init__(self, folder: Path) -> None:
        self.promises = 0
        self._folder = folder
        self._limit_mj = self._spent_mj = self._unsure_mj = 0
        self._answered = asyncio.Event()
        self._asked: list[str] = []
        self._answers: dict[str, bytes] = {}
        self._field = np.sin(np.arange(2 * 16 * 16, dtype=np.float32).reshape(2, 16, 16) / 40)

    async def work(self, stop: asyncio.Event) -> None:
        """Open the account as soon as there is a stack, then top up and ask for forecasts until ``stop``."""
        while not stop.is_set():
            try:
                async with self._stack() as (redis, settings):
                    await _open(redis, settings)
                    while not stop.is_set():
                        await self._once(redis)
                        await asyncio.sleep(PAUSE_S)
            except TROUBLE:
                await asyncio.sleep(0.05)

    async def answered(self, *, within_s: float) -> None:
        """Return when `work` has seen one more answer, or after ``within_s`` seconds."""
        self._answered.clear()
        with suppress(TimeoutError):
            await asyncio.wait_for(self._answered.wait(), within_s)

    async def forecast(self, *, within_s: float) -> None:
        """Be answered with a forecast; asked again while stores and workers come up.

        Raises:
            NvpError, RedisError, OSError: what was still in the way at the end.
        """
        until = time.monotonic() + within_s
        while True:
            try:
                await self._forecast(within_s=max(1.0, until - time.monotonic()))
            except TROUBLE:
                if time.monotonic() > until:
                    raise
                await asyncio.sleep(0.1)
            else:
                return

    async def broken(self) -> list[str]:
        """The promises that were not kept, in words."""
        async with self._stack() as (redis, settings):
            wrong = await self._wrong_joules(redis) + await self._wrong_answers(redis)
            if not await passed(redis, ACCOUNT, "lineage", timeout_s=ANSWERED_WITHIN_S):
                return [*wrong, "facts still wait for the graph"]
            async with Graph.connect(settings) as graph:
                rows = await graph.rows(
                    "MATCH (d:Decision) WHERE d.request_id IN $ids RETURN d.request_id AS id", ids=self._asked
                )
        lost = set(self._asked) - {row["id"] for row in rows}
        return [*wrong, *(f"request {one} was answered, and the graph does not know it" for one in sorted(lost))]

    async def _forecast(self, *, within_s: float) -> None:
        async with self._stack() as (redis, settings):
            await _open(redis, settings)
        async with AgentClient.connect(ACCOUNT, settings=Settings(data_dir=self._folder)) as nvp:
            said = await nvp.predict(
                self._field, domain=DOMAIN, model="trivial", budget_j=BUDGET_J, deadline_s=within_s
            )
        if not np.isfinite(said.mean).all():
            raise NvpError("the forecast is not finite")

    async def _once(self, redis: Redis) -> None:
        self._unsure_mj += TOP_UP_MJ  # until it is acknowledged it may have happened or not
        balance = await Ledger(redis).top_up(ACCOUNT, TOP_UP_MJ)
        self._unsure_mj -= TOP_UP_MJ
        self._limit_mj, self._spent_mj = balance.limit_mj, balance.spent_mj
        request = PredictionRequested(domain=DOMAIN, field=inline_array(self._field), model="trivial")
        until = datetime.now(UTC) + timedelta(minutes=10)
        event = new_event(
            request, source="nvp:benchmark", subject=DOMAIN, deadline=until, budget_mj=1000 * BUDGET_J
        )
        await publish(redis, ACCOUNT, "predict", event)
        self._asked.append(event.id)
        self.promises += 2
        for one in self._asked[-5:]:
            if one not in self._answers and (found := await _answer(redis, one)):
                self._answers[one] = found
                self._answered.set()
                self.promises += 1

    async def _wrong_joules(self, redis: Redis) -> list[str]:
        balance = await Ledger(redis).balance(ACCOUNT)
        highest_mj = max(self._limit_mj, LIMIT_MJ) + self._unsure_mj
        wrong = []
        if not self._limit_mj <= balance.limit_mj <= highest_mj:
            wrong.append(f"limit {balance.limit_mj} mJ, acknowledged were {self._limit_mj} to {highest_mj}")
        if balance.spent_mj < self._spent_mj:
            wrong.append(f"spent {balance.spent_mj} mJ, it was {self._spent_mj}")
        self._limit_mj, self._spent_mj, self._unsure_mj = balance.limit_mj, balance.spent_mj, 0
        return wrong

    async def _wrong_answers(self, redis: Redis) -> list[str]:
        until, wrong = time.monotonic() + ANSWERED_WITHIN_S, []
        for one in self._asked:
            while (found := await _answer(redis, one)) is None:
                if time.monotonic() > until:
                    break
                await asyncio.sleep(0.05)
            if found is None:
                wrong.append(f"request {one} was accepted and is not answered")
            elif self._answers.setdefault(one, found) != found:
                wrong.append(f"request {one} has another answer than it had")
        return wrong

    @asynccontextmanager
    async def _stack(self) -> AsyncIterator[tuple[Redis, Settings]]:
        """The owner's own connection. Raises `StackNotRunning` while there is no stack."""
        settings = find(Settings(data_dir=self._folder)).settings
        redis = await connect(settings)
        try:
            yield redis, settings
        finally:
            await redis.aclose()


async def _open(redis: Redis, settings: Settings) -> None:
    await deployment.open_account(redis, settings, ACCOUNT, limit_mj=LIMIT_MJ, owner="benchmark")


async def _answer(redis: Redis, request_id: str) -> bytes | None:
    """The answer to a request, byte for byte, if there is one."""
    found = await answer(redis, ACCOUNT, request_id, [TYPE_OF[PredictionCompleted]])
    return None if found is None else found.encode()
