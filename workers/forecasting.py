"""Models in service: which one a request means, loaded in the child, run in batches of one shape."""

from __future__ import annotations

import asyncio
import time
from collections import defaultdict
from dataclasses import dataclass, field

import numpy as np
import structlog
from numpy.typing import NDArray

from nvp_agentkit.energy.meter import modelled
from nvp_agentkit.ensemble import EnsembleRecord, Member
from nvp_agentkit.errors import DigestMismatch, InvalidFile, NvpError, UnknownModel, UnknownName
from nvp_agentkit.messages import PredictionRequested
from nvp_agentkit.streams import AWAY, RedisError, known

from . import registry
from .compute.front import Answer, Cost
from .rounds import every
from .system import System
from .trivial import Trivial

BATCH_SIZES = (1, 4)  # a batch is padded up to one of these; both are compiled before a model counts as ready
BATCH_WAIT_S = 0.005
LOOK_EVERY_S = 1.0  # for ensembles that came into service since
LOAD_LIMIT_S = 120.0
MODELS_KEPT = 16  # in the child; the least recently used one makes room

Frames = NDArray[np.float32]
log = structlog.get_logger()


@dataclass(frozen=True)
class Served:
    """The model that answers: this voter's member of an account's ensemble."""

    record: EnsembleRecord
    member: Member


@dataclass(frozen=True)
class Prediction:
    """Whose it is, mean and log-variance, each (H, W), and this request's share of what the batch cost."""

    model_id: str
    mean: NDArray[np.float32]
    log_var: NDArray[np.float32]
    cost: Cost


@dataclass
class _Waiting:
    served: Served
    frames: Frames
    deadline: float
    answer: asyncio.Future[Prediction] = field(default_factory=lambda: asyncio.get_running_loop().create_future())


class ModelHost:
    """This voter's models in its compute child. Loading, warming and batching happen here and only here."""

    def __init__(self, voter: str, system: System) -> None:
        self.voter = voter
        self._system = system
        self._simulated: frozenset[str] | None = None  # domains, once the child has been asked
        self._told: set[str] = set()  # what cannot be loaded, said once
        self._warm: dict[tuple[str, tuple[int, ...]], float] = {}  # (model, (K, H, W)) -> CPU-seconds of one forward
        self._generation = 0
        self._loading = asyncio.Lock()
        self._waiting: dict[tuple[str, tuple[int, ...]], list[_Waiting]] = defaultdict(list)
        self._tasks: set[asyncio.Task[None]] = set()
        self.state, self.detail = "starting", ""

    async def resolve_single(self, account: str, request: PredictionRequested) -> Served | Trivial:
        """Who answers a request for one forecast: `resolve`, or a trivial forecaster.

        One is asked for by its id. The best stands in, until an ensemble is trained, where no model is named and a
        simulator of ours knows the domain.

        Raises:
            UnknownModel: as `resolve`, in a domain that nobody knows.
        """
        if trivial := Trivial.asked_for(request.model):
            return trivial
        try:
            return await self.resolve(account, request)
        except UnknownModel:
            if request.model is not None or request.domain in await registry.domains(self._system.redis, account):
                raise
            if request.domain not in await self._domains_simulated():
                raise
            return Trivial()

    async def resolve(self, account: str, request: PredictionRequested) -> Served:
        """The member that answers ``request``.

        Raises:
            UnknownModel: the account has no ensemble for the domain, or none with that model.
        """
        record = await registry.ensemble(self._system.redis, account, request.domain)
        if request.model is None:
            return Served(record, self._mine(record) or record.champion)
        for member in record.members:
            if member.model_id == request.model:
                return Served(record, member)
        raise UnknownModel(
            f"model {request.model!r} is not in service for {account}/{request.domain}; "
            f"in service: {', '.join(member.model_id for member in record.members)}"
        )

    async def cost_mj(self, served: Served | Trivial, frames: Frames) -> int:
        """What one forecast of this shape takes; a model's from the warm-up forward that made it ready."""
        if isinstance(served, Trivial):
            cpu_s = served.cpu_s(frames.shape)
        else:
            cpu_s = await self._ready(served.member, frames.shape)
        return modelled(cpu_s, watts_per_core=self._system.settings.watts_per_core).mj

    async def mask(self, record: EnsembleRecord) -> NDArray[np.bool_] | None:
        """Cells that count, (H, W); None where all do."""
        return None if record.mask is None else (await self._system.artifacts.get_array(record.mask)) > 0

    async def predict(self, served: Served | Trivial, frames: Frames, *, deadline: float) -> Prediction:
        """Forecast the frame after ``frames``, shape (K, H, W); a model does in a batch with whoever else asks now."""
        if isinstance(served, Trivial):
            model_id, told = await served.forecast(self._system.child, frames, deadline=deadline)
            mean, log_var = told.arrays
            return Prediction(model_id, mean, log_var, told.cost)
        await self._ready(served.member, frames.shape)
        waiting = _Waiting(served, frames, deadline)
        key = (served.member.model_id, frames.shape)
        self._waiting[key].append(waiting)
        if len(self._waiting[key]) == 1:
            task = asyncio.create_task(self._gather(key))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)
        prediction = await waiting.answer
        if not (np.isfinite(prediction.mean).all() and np.isfinite(prediction.log_var).all()):
            raise NvpError(f"{served.member.voter}: {served.member.model_id} forecast values that are not finite")
        return prediction

    async def keep_ready(self, stop: asyncio.Event) -> None:
        """Load and warm what comes into service, so that the first request finds it compiled."""
        async for _ in every(LOOK_EVERY_S, stop):
            try:
                await self._system.child.start()
                self.state, self.detail = "ready", await self._preload()
            except (NvpError, RedisError) as error:
                self.state, self.detail = "starting", str(error)
                log.warning("models not ready", reason=str(error))

    def readiness(self) -> tuple[str, str]:
        return self.state, self.detail

    async def _domains_simulated(self) -> frozenset[str]:
        if self._simulated is None:
            told = await self._system.child.call("simulated", {}, deadline=time.time() + LOAD_LIMIT_S)
            self._simulated = frozenset(told.values["domains"])
        return self._simulated

    def _mine(self, record: EnsembleRecord) -> Member | None:
        return next((member for member in record.members if member.voter == self.voter), None)

    async def _preload(self) -> str:
        """Make ready what is in service, as far as there is room; what came of it, in words.

        An ensemble that cannot be loaded is its account's trouble: the others are served.
        """
        loaded: set[str] = set()
        broken: set[str] = set()
        for account in await known(self._system.redis):
            try:
                domains = await registry.domains(self._system.redis, account)
            except RedisError as error:
                if isinstance(error, AWAY):
                    raise
                broken.add(f"{account}: {error}")
                continue
            for domain in domains:
                try:
                    record = await registry.ensemble(self._system.redis, account, domain)
                    member = self._mine(record)
                    if member is not None and record.frames is not None and len(loaded) < MODELS_KEPT:
                        await self._ready(member, record.frames)
                        loaded.add(member.model_id)
                except NvpError as error:
                    if error.retryable:
                        raise
                    broken.add(f"{account}/{domain}: {error}")
        for one in broken - self._told:
            log.error("an ensemble cannot be loaded", reason=one)
        self._told = broken
        return (f"{len(loaded)} models" if loaded else "no model yet") + (f", {len(broken)} broken" if broken else "")

    async def _ready(self, member: Member, shape: tuple[int, ...]) -> float:
        """Have ``member`` in the child with ``shape`` compiled; returns the CPU-seconds of one forward."""
        async with self._loading:
            await self._system.child.start()
            if self._generation != self._system.child.generation:
                self._warm.clear()
                self._generation = self._system.child.generation
            key = (member.model_id, shape)
            if key not in self._warm:
                said = await self._load(member, shape)
                self._warm = {warm: cpu_s for warm, cpu_s in self._warm.items() if warm[0] in said.values["kept"]}
                self._warm[key] = float(said.values["cpu_s"])
                log.info("model ready", model=member.model_id, shape=shape)
            return self._warm[key]

    async def _load(self, member: Member, shape: tuple[int, ...]) -> Answer:
        try:
            path = await self._system.artifacts.local_path(member.weights)
            return await self._system.child.call(
                "load",
                {
                    "model_id": member.model_id,
                    "path": str(path.resolve()),
                    "frames": list(shape),
                    "batches": BATCH_SIZES,
                    "keep": MODELS_KEPT,
                },
                deadline=time.time() + LOAD_LIMIT_S,
            )
        except (DigestMismatch, UnknownName, InvalidFile) as error:  # of our weights: nothing the asker could change
            raise NvpError(f"{member.voter} cannot load {member.model_id}: {error}") from error

    async def _gather(self, key: tuple[str, tuple[int, ...]]) -> None:
        await asyncio.sleep(BATCH_WAIT_S)
        waiting = self._waiting.pop(key)
        for start in range(0, len(waiting), BATCH_SIZES[-1]):
            batch = waiting[start : start + BATCH_SIZES[-1]]
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
        served = batch[0].served
        mask = await self.mask(served.record)
        if mask is not None and mask.shape == frames[0].shape[-2:]:
            arrays.append(mask.astype(np.uint8))
        deadline = max(one.deadline for one in batch)
        answer = await self._system.child.call(
            "predict", {"model_id": served.member.model_id}, arrays, deadline=deadline
        )
        mean, log_var = answer.arrays
        cost = answer.cost
        share = Cost(cost.cpu_s / len(batch), cost.wall_s / len(batch), cost.rss_gb)
        return [Prediction(served.member.model_id, mean[i], log_var[i], share) for i in range(len(batch))]
