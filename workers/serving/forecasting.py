"""Models in service: loaded in the child, run in batches of one shape."""

from __future__ import annotations

import asyncio
import time
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from nvp_agentkit.energy.meter import modelled
from nvp_agentkit.ensemble import EnsembleRecord
from nvp_agentkit.errors import DeadlineExceeded, NvpError

from ..compute.cost import Cost, patience_s
from ..system import System
from .duty import BATCH_SIZES, Duty
from .resolving import Frames, Resolver, Served, Starter
from .same_question import Questions
from .trivial import Trivial
from .warm import Model, WarmModels

BATCH_WAIT_S = 0.005

Answering = Served | Starter | Trivial


@dataclass(frozen=True)
class Prediction:
    """Whose it is, mean and log-variance (H, W), a share of what the batch cost, and what `model.novelty` says."""

    model_id: str
    mean: NDArray[np.float32]
    log_var: NDArray[np.float32]
    cost: Cost
    ood: float | None = None


@dataclass
class _Waiting:
    served: Served | Starter
    model: Model
    frames: Frames
    deadline: float
    answer: asyncio.Future[Prediction] = field(default_factory=lambda: asyncio.get_running_loop().create_future())


class ModelHost:
    """This voter's models in its compute child. Loading, warming and batching happen here and only here."""

    def __init__(self, voter: str, system: System) -> None:
        self.voter = voter
        self.who = Resolver(voter, system)
        self._system = system
        self.questions = Questions(system.redis)
        self._warm = WarmModels(system)
        self._duty = Duty(self.who, self._warm, system)
        self._waiting: dict[tuple[str, tuple[int, ...]], list[_Waiting]] = defaultdict(list)
        self._tasks: set[asyncio.Task[None]] = set()

    async def cost_mj(self, served: Answering, frames: Frames) -> int:
        """What one forecast of this shape takes, before any of it is done.

        What this voter has to keep ready (`Duty`) costs nobody anything; the rest is made ready at the asker's cost.
        """
        if isinstance(served, Trivial):
            cpu_s = served.cpu_s(frames.shape)
        else:
            frames = served.fitted(frames)
            model, shape = served.model(frames), frames.shape
            if self._duty.includes(served, shape):
                await self._warm.ready(model, shape, batches=BATCH_SIZES)
            cpu_s = self._warm.price(model, shape).cpu_s
        return modelled(cpu_s, watts_per_core=self._system.settings.watts_per_core).mj

    async def mask(self, record: EnsembleRecord) -> NDArray[np.bool_] | None:
        """Cells that count, (H, W); None where all do."""
        return None if record.mask is None else (await self._system.artifacts.get_array(record.mask)) > 0

    async def predict(
        self,
        served: Answering,
        frames: Frames,
        *,
        deadline: float,
        on_cost: Callable[[Cost], object] = lambda cost: None,
    ) -> Prediction:
        """Forecast the frame after ``frames``, shape (K, H, W); a model does in a batch with whoever else asks now.

        Args:
            on_cost: told what making the shape ready took, where that had to be; the prediction's cost has it as well.

        Raises:
            DeadlineExceeded: there is less time left than it takes; nothing was done.
        """
        if isinstance(served, Trivial):
            model_id, told = await served.forecast(self._system.child, frames, deadline=deadline)
            mean, log_var = told.arrays
            return Prediction(model_id, mean, log_var, told.cost)
        frames = served.fitted(frames)
        model = served.model(frames)
        loaded = await self._ready(served, model, frames.shape, deadline, on_cost)
        waiting = _Waiting(served, model, frames, deadline)
        key = (model.model_id, frames.shape)
        self._waiting[key].append(waiting)
        if len(self._waiting[key]) == 1:
            task = asyncio.create_task(self._gather(key))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)
        prediction = await waiting.answer
        if not (np.isfinite(prediction.mean).all() and np.isfinite(prediction.log_var).all()):
            raise NvpError(
                f"{model.voter}: {model.model_id} forecast values that are not finite; "
                "see that the field is in the units and of the size that it learnt, or train anew"
            )
        return replace(prediction, cost=loaded + prediction.cost)

    async def keep_ready(self, stop: asyncio.Event) -> None:
        """Until ``stop``: see `Duty`."""
        await self._duty.keep(stop)

    def readiness(self) -> tuple[str, str]:
        return self._duty.state, self._duty.detail

    async def _ready(
        self,
        served: Served | Starter,
        model: Model,
        shape: tuple[int, ...],
        deadline: float,
        on_cost: Callable[[Cost], object],
    ) -> Cost:
        """Have the model and shape ready, if there is time for that and a forecast; what it cost who asks."""
        price, left_s = self._warm.price(model, shape), deadline - time.time()
        if left_s < price.wall_s:
            first = ", made ready first," if price.to_load else ""
            raise DeadlineExceeded(
                f"{left_s:.2f} s left, a forecast of {shape[-2]}x{shape[-1]}{first} takes about {price.wall_s:.2f} s; "
                "allow more time"
            )
        costs: list[Cost] = []

        def spent(cost: Cost) -> None:
            costs.append(cost)
            on_cost(sum(costs, Cost()))

        on_load = None if self._duty.includes(served, shape) else spent
        await self._warm.ready(model, shape, batches=self._duty.batches(served, shape), on_cost=on_load)
        return sum(costs, Cost())

    async def _gather(self, key: tuple[str, tuple[int, ...]]) -> None:
        await asyncio.sleep(BATCH_WAIT_S)
        waiting = self._waiting.pop(key)
        most = self._duty.batches(waiting[0].served, key[1])[-1]
        for start in range(0, len(waiting), most):
            batch = waiting[start : start + most]
            try:
                predictions = await self._forward(batch)
            except Exception as error:  # noqa: BLE001 - each request gets it and decides
                for one in batch:
                    if not one.answer.done():  # its asker may be gone
                        one.answer.set_exception(error)
            else:
                for one, prediction in zip(batch, predictions, strict=True):
                    if not one.answer.done():
                        one.answer.set_result(prediction)

    async def _forward(self, batch: list[_Waiting]) -> list[Prediction]:
        size = next(size for size in BATCH_SIZES if size >= len(batch))
        frames = [one.frames for one in batch]
        arrays: list[NDArray[np.float32] | NDArray[np.uint8]] = [np.stack(frames + [frames[-1]] * (size - len(frames)))]
        served, model, shape = batch[0].served, batch[0].model, frames[0].shape
        mask = None if served.record is None else await self.mask(served.record)
        if mask is not None and mask.shape == shape[-2:]:
            arrays.append(mask.astype(np.uint8))
        deadline = max(one.deadline for one in batch)
        answer = await self._system.child.call(
            "predict",
            {"model_id": model.model_id},
            arrays,
            deadline=deadline,
            at_least_s=patience_s(self._warm.price(model, shape).wall_s),
        )
        (mean, log_var), cost, ood = answer.arrays, answer.cost, answer.values["ood"] or [None] * size
        share = Cost(cost.cpu_s / len(batch), cost.wall_s / len(batch), cost.rss_gb)
        return [Prediction(served.model_id, mean[i], log_var[i], share, ood[i]) for i in range(len(batch))]
