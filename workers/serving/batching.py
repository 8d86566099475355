"""Requests of one model and shape, forecast together when the compute child has a turn for them."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from itertools import takewhile

import numpy as np
from numpy.typing import NDArray

from nvp_agentkit.errors import DeadlineExceeded

from ..compute.cost import Cost
from ..compute.front import ComputeChild
from .resolving import Frames, Served, Starter
from .room import Key
from .warm import Model

BATCH_WAIT_S = 0.005

Mask = NDArray[np.bool_]


@dataclass(frozen=True)
class Prediction:
    """Whose it is, mean and log-variance (H, W), a share of what the batch cost, and what `model.novelty` says.

    ``widths``: of its intervals in standard deviations, by per cent, where they are calibrated.
    """

    model_id: str
    mean: NDArray[np.float32]
    log_var: NDArray[np.float32]
    cost: Cost
    ood: float | None = None
    widths: dict[str, float] | None = None


@dataclass(frozen=True, eq=False)
class Waiting:
    """One request that a batch has still to be made of; ``alone``: of it and no other."""

    served: Served | Starter
    model: Model
    frames: Frames
    deadline: float
    alone: bool = False
    answer: asyncio.Future[Prediction] = field(default_factory=lambda: asyncio.get_running_loop().create_future())

    @property
    def key(self) -> Key:
        """What it shares a batch by."""
        return self.model.model_id, self.frames.shape


class Batches:
    """Who waits for a forecast. Who is in a batch is known once that begins: who still has time then, first come first.

    Args:
        about: what a batch needs to know besides, looked up while the child may be busy with others.
        forward: one batch, in the child's turn that was taken for it.
        most: requests in a batch, at most.
    """

    def __init__(
        self,
        child: ComputeChild,
        about: Callable[[Waiting], Awaitable[Mask | None]],
        forward: Callable[[list[Waiting], Mask | None], Awaitable[list[Prediction]]],
        most: Callable[[Waiting], int],
    ) -> None:
        self._child, self._about, self._forward, self._most = child, about, forward, most
        self._waiting: dict[Key, list[Waiting]] = {}
        self._tasks: set[asyncio.Task[None]] = set()

    async def answer(self, one: Waiting) -> Prediction:
        """The forecast that ``one`` waits for; where its batch has begun before the deadline it may be late.

        Raises:
            DeadlineExceeded: its time was over before; nothing was done for it.
        """
        queue = self._waiting.get(one.key)
        if queue is None:
            queue = self._waiting[one.key] = []
            task = asyncio.create_task(self._serve(one.key, queue))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)
        queue.append(one)
        try:
            await asyncio.wait([one.answer], timeout=max(one.deadline - time.time(), 0.0))
            if one in queue:
                raise _late()
            return await one.answer
        finally:
            if one in queue:
                queue.remove(one)

    async def _serve(self, key: Key, queue: list[Waiting]) -> None:
        """Batch by batch, each in a turn of its own, until nobody waits."""
        try:
            await asyncio.sleep(BATCH_WAIT_S)
            while queue:
                await self._batch(queue)
        finally:
            del self._waiting[key]

    async def _batch(self, queue: list[Waiting]) -> None:
        batch: list[Waiting] = []
        try:
            about = await self._about(queue[0])
            async with self._child.turn("predict"):
                batch = _begun(queue, self._most)
                predictions = await self._forward(batch, about) if batch else []
        except Exception as error:  # noqa: BLE001 - each request gets it and decides
            for one in batch or _taken(queue, len(queue)):
                if not one.answer.done():  # its asker may be gone
                    one.answer.set_exception(error)
        else:
            for one, prediction in zip(batch, predictions, strict=True):
                if not one.answer.done():
                    one.answer.set_result(prediction)


def _begun(queue: list[Waiting], most: Callable[[Waiting], int]) -> list[Waiting]:
    """Those of ``queue`` that make the next batch; whose time is over is told so."""
    now = time.time()
    for one in [one for one in queue if one.deadline <= now]:
        queue.remove(one)
        one.answer.set_exception(_late())
    if not queue:
        return []
    together = list(takewhile(lambda one: not one.alone, queue)) or queue[:1]
    return _taken(queue, min(len(together), most(queue[0])))


def _taken(queue: list[Waiting], count: int) -> list[Waiting]:
    taken, queue[:] = queue[:count], queue[count:]
    return taken


def _late() -> DeadlineExceeded:
    return DeadlineExceeded(
        "its turn for a forecast did not come before its deadline, and nothing was forecast; allow more time"
    )
