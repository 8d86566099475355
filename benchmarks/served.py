"""A network in service, untrained, on a server of its own: workers that are started, and questions put to them."""

from __future__ import annotations

import asyncio
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Collection, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import partial
from os import sched_setaffinity
from pathlib import Path

import numpy as np

from benchmarks.verdict import ROOT, BrokenError
from nvp_agentkit.cli.deployment import SIGNERS
from nvp_agentkit.embedded import children, valkey
from nvp_agentkit.ensemble import EnsembleRecord, Member, init_keys
from nvp_agentkit.messages import ArrayRef, PredictionCompleted, PredictionRefused, PredictionRequested, new_event
from nvp_agentkit.messages.envelope import TYPE_OF
from nvp_agentkit.model import ModelBundle, NVPConfig
from nvp_agentkit.model.state import initial_variables
from nvp_agentkit.model.storage import model_bytes
from nvp_agentkit.settings import VOTERS, Settings, child_environment
from nvp_agentkit.streams import Completion, ReplyReader, emit, publish, register
from nvp_agentkit.streams.health import workers
from nvp_agentkit.workers.serving import registry
from nvp_agentkit.workers.system import System, bootstrap

ACCOUNT, DOMAIN, UNITS = "bench", "plasma_physics", "J"
LIMIT_MJ, BUDGET_MJ = 10**12, 10**6
READY_S, ANSWER_S = 180.0, 300.0


@dataclass(frozen=True)
class Bench:
    """Who asks, and how to start who answers."""

    system: System
    model: Member
    side: int

    async def questions(self, count: int, first: int) -> list[ArrayRef]:
        """Fields that nobody has asked about, two frames each, where workers can read them."""
        context = NVPConfig().context_frames
        rng = np.random.default_rng(first)
        made = [1 + rng.random((context, self.side, self.side), np.float32) for _ in range(count)]
        return [await self.system.artifacts.put_array(field, UNITS) for field in made]

    async def hz(self, suffix: str, fields: Sequence[ArrayRef]) -> float:
        """Answers a second where all of ``fields`` are asked about at once."""
        redis = self.system.redis
        deadline = datetime.now(UTC) + timedelta(seconds=ANSWER_S)
        events = [
            new_event(
                PredictionRequested(domain=DOMAIN, field=field), source="nvp:client:bench", deadline=deadline,
                budget_mj=BUDGET_MJ,
            )
            for field in fields
        ]  # fmt: skip
        types = [TYPE_OF[PredictionCompleted], TYPE_OF[PredictionRefused]]
        async with ReplyReader(redis, ACCOUNT) as replies:
            waiting = [asyncio.create_task(replies.wait(one.id, types, timeout_s=ANSWER_S)) for one in events]
            began = time.perf_counter()
            for event in events:
                await publish(redis, ACCOUNT, suffix, event)
            answers = await asyncio.gather(*waiting)
            took_s = time.perf_counter() - began
        for answer in answers:
            if not isinstance(answer.payload, PredictionCompleted):
                raise BrokenError(f"no forecast: {answer.payload}")
        return len(fields) / took_s

    @asynccontextmanager
    async def worker(self, *module: str, instance: str, cores: Collection[int] = ()) -> AsyncIterator[None]:
        """``python -m`` such a worker, ready; on ``cores`` only, where they are given. Ended at the end."""
        settings = self.system.settings.model_copy(update={"instance": instance})
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", *module, cwd=ROOT, env=child_environment(settings),
            stderr=asyncio.subprocess.DEVNULL, preexec_fn=partial(sched_setaffinity, 0, cores) if cores else None,
        )  # fmt: skip
        try:
            async with asyncio.timeout(READY_S):
                while not await self._ready(instance):
                    if process.returncode is not None:
                        raise BrokenError(f"{module[-1]} ended with status {process.returncode}")
                    await asyncio.sleep(0.1)
            yield
        finally:
            if process.returncode is None:
                process.terminate()
            await process.wait()

    async def _ready(self, instance: str) -> bool:
        """Whether it says that it has the model loaded and compiled."""
        here = [one for one in await workers(self.system.redis) if one.instance == instance]
        return bool(here) and all(one.state == "ready" and one.detail.startswith("1 model") for one in here)


@asynccontextmanager
async def bench(side: int) -> AsyncIterator[Bench]:
    """An account with joules enough, and the default network in service for fields of ``side`` cells."""
    with tempfile.TemporaryDirectory(prefix="nvp-served-") as folder:
        server = await valkey.start(Path(folder), appendfsync="everysec")
        try:
            settings = Settings(data_dir=Path(folder), redis_url=valkey.url(server))
            init_keys(settings.keys_dir, SIGNERS)
            async with bootstrap("bench", settings) as system:
                await register(system.redis, ACCOUNT, owner="benchmarks")
                await system.ledger.create(ACCOUNT, LIMIT_MJ)
                yield Bench(system, await _served(system, side), side)
        finally:
            await children.end(server.process, grace_s=0)


async def _served(system: System, side: int) -> Member:
    config = NVPConfig()
    weights = await system.artifacts.put(model_bytes(ModelBundle(config, initial_variables(config, 0), domain=DOMAIN)))
    member = Member(voter=VOTERS[0], model_id=f"model:{weights.digest}", weights=weights)
    record = EnsembleRecord(domain=DOMAIN, members=(member,), frames=(config.context_frames, side, side))
    await emit(system.redis, ACCOUNT, Completion(fields=registry.registration(record)))
    return member
