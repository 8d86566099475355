"""What an attempt at a job has done so far, put away where the next attempt finds it."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import structlog

from nvp_agentkit.errors import NvpError
from nvp_agentkit.messages import ObjectRef
from nvp_agentkit.streams import Delivery, RedisError
from nvp_agentkit.streams.fences import begin, point

from ..system import System
from . import keeping

log = structlog.get_logger()


@dataclass
class Attempt:
    """One attempt at a job, under its fence.

    What the child has left is in the artifact store before the pointer moves, and the pointer moves only while no later
    attempt has begun. Nothing of it is promised: an attempt that finds nothing begins anew.
    """

    delivery: Delivery
    system: System
    fence: int
    _models: tuple[ObjectRef, ...] = ()  # of members that are done
    _run: ObjectRef | None = None  # the checkpoint of the one after them
    _known: dict[str, ObjectRef] = field(default_factory=dict)  # models, by where the child has them
    _left: Mapping[str, Any] = field(default_factory=dict)
    _news: asyncio.Event = field(default_factory=asyncio.Event)

    async def found(self) -> dict[str, Any]:
        """Local files of what earlier attempts have done, as an operation's ``left``; empty where any is missing."""
        try:
            self._known = {await self._local(ref): ref for ref in self._models}
            return {"models": list(self._known), "run": None if self._run is None else await self._local(self._run)}
        except NvpError as error:
            log.warning("checkpoint not found", job=self.delivery.request_id, reason=str(error))
            return {"models": [], "run": None}

    def left(self, told: Mapping[str, Any]) -> None:
        """The child has done more: put it away, unless there is something newer by then."""
        self._left = told
        self._news.set()

    async def put_away(self, left: Mapping[str, Any]) -> None:
        """Into the artifact store, and point at it; where another attempt has begun, nothing is left of it."""
        for path in left["models"]:
            if path not in self._known:
                self._known[path] = await self._put(path)
        models = [self._known[path] for path in left["models"]]
        run = None if left["run"] is None else await self._put(left["run"])
        if not await point(self.system.redis, self.delivery, self.fence, _text(models, run)):
            log.warning("another worker has this job now", job=self.delivery.request_id)
            if run is not None:
                await self.system.artifacts.remove(run)
            return
        before, self._run = self._run, run
        if before is not None and before != run:
            await self.system.artifacts.remove(before)

    async def keep(self) -> None:
        """Put away what is left, for ever."""
        while True:
            await self._news.wait()
            self._news.clear()
            try:
                await self.put_away(self._left)
            except FileNotFoundError:
                continue  # the child has gone on, and is about to tell of it
            except (NvpError, RedisError) as error:
                log.warning("checkpoint not kept", job=self.delivery.request_id, reason=str(error))

    async def forget(self) -> None:
        """The job has ended without a result: nobody goes on from its checkpoint."""
        try:
            if self._run is not None and await point(self.system.redis, self.delivery, self.fence, _text([], None)):
                await self.system.artifacts.remove(self._run)
        except (NvpError, RedisError) as error:
            log.warning("checkpoint not removed", job=self.delivery.request_id, reason=str(error))

    async def _put(self, path: str) -> ObjectRef:
        with await asyncio.to_thread(Path(path).open, "rb") as opened:
            return await self.system.artifacts.put_file(opened, keeping.SAFETENSORS)

    async def _local(self, ref: ObjectRef) -> str:
        return str((await self.system.artifacts.local_path(ref)).resolve())


@asynccontextmanager
async def attempt(delivery: Delivery, system: System) -> AsyncIterator[Attempt]:
    """Begin the job under a new fence; inside, what it leaves is put away."""
    fence, at = await begin(system.redis, delivery)
    models, run = ((), None) if at is None else _refs(at)
    begun = Attempt(delivery, system, fence, models, run)
    keeping_on = asyncio.create_task(begun.keep())
    try:
        try:
            yield begun
        finally:
            keeping_on.cancel()
            await asyncio.gather(keeping_on, return_exceptions=True)
    except NvpError as error:
        if not error.retryable:
            await begun.forget()
        raise


def _text(models: list[ObjectRef], run: ObjectRef | None) -> str:
    return json.dumps({"models": [one.model_dump() for one in models], "run": run and run.model_dump()})


def _refs(text: str) -> tuple[tuple[ObjectRef, ...], ObjectRef | None]:
    told = json.loads(text)
    models = tuple(ObjectRef.model_validate(one) for one in told["models"])
    return models, None if told["run"] is None else ObjectRef.model_validate(told["run"])
