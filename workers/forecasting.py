"""Models in service: which one a request means, loaded in the child, run in batches of one shape."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from nvp_agentkit.artifacts import Artifacts
from nvp_agentkit.ensemble import EnsembleRecord, Member
from nvp_agentkit.errors import UnknownModel
from nvp_agentkit.messages import PredictionRequested

from .compute.front import Answer, ComputeChild
from .registry import Registry

BATCH_SIZES = (1, 2, 4, 8)  # a batch is padded up to one of these, so that few programs are compiled
BATCH_WAIT_S = 0.005

Frames = NDArray[np.float32]


@dataclass(frozen=True)
class Served:
    """The model that answers: this voter's member of an account's ensemble."""

    record: EnsembleRecord
    member: Member


@dataclass(frozen=True)
class Prediction:
    """Mean and log-variance, each (H, W), and this request's share of what the batch cost."""

    mean: NDArray[np.float32]
    log_var: NDArray[np.float32]
    cost: Answer


@dataclass
class _Waiting:
    frames: Frames
    deadline: float
    answer: asyncio.Future[Prediction] = field(default_factory=lambda: asyncio.get_running_loop().create_future())


class ModelHost:
    """This voter's models in its compute child. Loading, warming and batching happen here and only here."""

    def __init__(self, voter: str, child: ComputeChild, artifacts: Artifacts, registry: Registry) -> None:
        self._voter = voter
        self._child = child
        self._artifacts = artifacts
        self._registry = registry
        self._loaded: set[str] = set()
        self._generation = 0
        self._waiting: dict[tuple[str, tuple[int, ...]], list[_Waiting]] = defaultdict(list)
        self._loading = asyncio.Lock()
        self._tasks: set[asyncio.Task[None]] = set()

    async def resolve(self, account: str, request: PredictionRequested) -> Served:
        """The member that answers ``request``.

        Raises:
            UnknownModel: the account has no ensemble for the domain, or none with that model.
        """
        record = await self._registry.ensemble(account, request.domain)
        if request.model is None:
            return Served(record, record.member(self._voter))
        for member in record.members:
            if member.model_id == request.model:
                return Served(record, member)
        raise UnknownModel(
            f"model {request.model!r} is not in service for {account}/{request.domain}; "
            f"in service: {', '.join(member.model_id for member in record.members)}"
        )

    async def load(self, member: Member) -> None:
        """Have ``member`` in the child with its shapes compiled; at once when it is there already."""
        async with self._loading:
            await self._child.start()
            if self._generation != self._child.generation:
                self._loaded.clear()
                self._generation = self._child.generation
            if member.model_id not in self._loaded:
                path = await self._artifacts.local_path(member.model)
                await self._child.call("load", {"model_id": member.model_id, "path": str(path)})
                self._loaded.add(member.model_id)

    async def predict(self, served: Served, frames: Frames, *, deadline: float) -> Prediction:
        """Forecast the frame after ``frames``, shape (K, H, W), in a batch with whoever else asks now."""
        await self.load(served.member)
        waiting = _Waiting(frames, deadline)
        key = (served.member.model_id, frames.shape)
        self._waiting[key].append(waiting)
        if len(self._waiting[key]) == 1:
            task = asyncio.create_task(self._run(key))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)
        return await waiting.answer

    async def _run(self, key: tuple[str, tuple[int, ...]]) -> None:
        await asyncio.sleep(BATCH_WAIT_S)
        waiting = self._waiting.pop(key)
        for start in range(0, len(waiting), BATCH_SIZES[-1]):
            batch = waiting[start : start + BATCH_SIZES[-1]]
            try:
                predictions = await self._forward(key[0], batch)
            except Exception as error:  # noqa: BLE001 - each request gets it and decides
                for one in batch:
                    if not one.answer.done():
                        one.answer.set_exception(error)
            else:
                for one, prediction in zip(batch, predictions, strict=True):
                    if not one.answer.done():
                        one.answer.set_result(prediction)

    async def _forward(self, model_id: str, batch: list[_Waiting]) -> list[Prediction]:
        size = next(size for size in BATCH_SIZES if size >= len(batch))
        frames = [one.frames for one in batch]
        stacked = np.stack(frames + [frames[-1]] * (size - len(frames)))
        deadline = max(one.deadline for one in batch)
        answer = await self._child.call("predict", {"model_id": model_id}, [stacked], deadline=deadline)
        mean, log_var = answer.arrays
        share = Answer({}, cpu_s=answer.cpu_s / len(batch), wall_s=answer.wall_s / len(batch), rss_gb=answer.rss_gb)
        return [Prediction(mean[i], log_var[i], share) for i in range(len(batch))]
