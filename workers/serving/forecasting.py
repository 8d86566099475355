"""Models in service: loaded in the child, run in batches of one shape."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from nvp_agentkit.energy.meter import modelled
from nvp_agentkit.ensemble import EnsembleRecord
from nvp_agentkit.errors import ChildDied, ComputeFailed, DeadlineExceeded, NvpError

from ..compute.cost import Cost, patience_s
from ..system import System
from .batching import Batches, Mask, Prediction, Waiting
from .duty import BATCH_SIZES, Duty
from .resolving import Frames, Resolver, Served, Starter
from .same_question import Questions
from .trivial import Trivial
from .warm import Model, WarmModels

Answering = Served | Starter | Trivial


class ModelHost:
    """This voter's models in its compute child. Loading, warming and batching happen here and only here."""

    def __init__(self, voter: str, system: System) -> None:
        self.voter = voter
        self.who = Resolver(voter, system)
        self._system = system
        self.questions = Questions(system.redis)
        self._warm = WarmModels(system)
        self._duty = Duty(self.who, self._warm, system)
        self._batches = Batches(system.child, self._mask_of, self._forward, self._most)

    async def cost_mj(self, served: Answering, frames: Frames, *, deadline: float) -> int:
        """What one forecast of this shape takes, before any of it is done.

        What this voter has to keep ready (`Duty`) costs nobody anything; the rest is made ready at the asker's cost.

        Raises:
            DeadlineExceeded: it is not ready until then.
        """
        if isinstance(served, Trivial):
            cpu_s = served.cpu_s(frames.shape)
        else:
            frames = served.fitted(frames)
            model, shape = served.model(frames), frames.shape
            if self._duty.includes(served, shape):
                price = await self._warm.ready(
                    model, shape, account=served.account, batches=BATCH_SIZES, standing=True, deadline=deadline
                )
            else:
                price = self._warm.price(model, shape)
            cpu_s = price.cpu_s
        return modelled(cpu_s, watts_per_core=self._system.settings.watts_per_core).mj

    async def mask(self, record: EnsembleRecord) -> Mask | None:
        """Cells that count, (H, W); None where all do."""
        return None if record.mask is None else (await self._system.artifacts.get_array(record.mask)) > 0

    async def predict(
        self,
        served: Answering,
        frames: Frames,
        *,
        deadline: float,
        alone: bool = False,
        on_cost: Callable[[Cost], object] = lambda cost: None,
    ) -> Prediction:
        """Forecast the frame after ``frames``, shape (K, H, W); a model does in a batch with whoever else asks now.

        Args:
            alone: in a batch of its own, for it may have killed the child.
            on_cost: told what has been spent of what fails: making the shape ready, a forecast that came too late.

        Raises:
            DeadlineExceeded: there is less time left than it takes, or its turn did not come: nothing was forecast;
                or it came too late.
        """
        if isinstance(served, Trivial):
            model_id, told = await served.forecast(self._system.child, frames, deadline=deadline)
            mean, log_var = told.arrays
            prediction = Prediction(model_id, mean, log_var, told.cost)
        else:
            frames = served.fitted(frames)
            model = served.model(frames)
            prediction = await self._answer(Waiting(served, model, frames, deadline, alone), on_cost)
            _require_finite(model, prediction)
        if (late_s := time.time() - deadline) > 0:
            on_cost(prediction.cost)
            raise DeadlineExceeded(
                f"the forecast had begun in time and ended {late_s:.2f} s after its deadline; allow more time"
            )
        return prediction

    async def keep_ready(self, stop: asyncio.Event) -> None:
        """Until ``stop``: see `Duty`."""
        await self._duty.keep(stop)

    def readiness(self) -> tuple[str, str]:
        return self._duty.state, self._duty.detail

    async def _answer(self, one: Waiting, on_cost: Callable[[Cost], object], *, again: bool = True) -> Prediction:
        """The forecast of ``one`` and what it cost; where the child died of another one meanwhile, ``again`` at once.

        Unless that would cost who asks: what is not kept ready is made ready once for its joules.
        """
        shape = one.frames.shape
        loaded = await self._ready(one.served, one.model, shape, one.deadline, on_cost)
        try:
            prediction = await self._batches.answer(one)
        except ComputeFailed as error:
            if isinstance(error, ChildDied) or not (again and self._duty.includes(one.served, shape)):
                raise
            anew = Waiting(one.served, one.model, one.frames, one.deadline, one.alone)
            return await self._answer(anew, on_cost, again=False)
        return replace(prediction, cost=loaded + prediction.cost)

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

        standing = self._duty.includes(served, shape)
        await self._warm.ready(
            model,
            shape,
            account=served.account,
            batches=self._duty.batches(served, shape),
            standing=standing,
            deadline=deadline,
            on_cost=None if standing else spent,
        )
        return sum(costs, Cost())

    def _most(self, one: Waiting) -> int:
        return self._duty.batches(one.served, one.frames.shape)[-1]

    async def _mask_of(self, one: Waiting) -> Mask | None:
        mask = None if one.served.record is None else await self.mask(one.served.record)
        return mask if mask is not None and mask.shape == one.frames.shape[-2:] else None

    async def _forward(self, batch: list[Waiting], mask: Mask | None) -> list[Prediction]:
        size = next(size for size in BATCH_SIZES if size >= len(batch))
        frames = [one.frames for one in batch]
        arrays: list[NDArray[np.float32] | NDArray[np.uint8]] = [np.stack(frames + [frames[-1]] * (size - len(frames)))]
        served, model, shape = batch[0].served, batch[0].model, frames[0].shape
        if mask is not None:
            arrays.append(mask.astype(np.uint8))
        answer = await self._system.child.call(
            "predict",
            {"model_id": model.model_id},
            arrays,
            deadline=max(one.deadline for one in batch),
            at_least_s=patience_s(self._warm.price(model, shape).wall_s),
            in_turn=True,
        )
        (mean, log_var), cost, ood = answer.arrays, answer.cost, answer.values["ood"] or [None] * size
        share = Cost(cost.cpu_s / len(batch), cost.wall_s / len(batch), cost.rss_gb)
        widths = answer.values["widths"]
        return [Prediction(served.model_id, mean[i], log_var[i], share, ood[i], widths) for i in range(len(batch))]


def _require_finite(model: Model, prediction: Prediction) -> None:
    """
    Raises:
        NvpError: there are no numbers in it.
    """
    if not (np.isfinite(prediction.mean).all() and np.isfinite(prediction.log_var).all()):
        raise NvpError(
            f"{model.voter}: {model.model_id} forecast values that are not finite; "
            "see that the field is in the units and of the size that it learnt, or train anew"
        )
