"""What the compute child has loaded and compiled: made ready once, at a price known before, and not without end."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import structlog

from nvp_agentkit.ensemble import Member
from nvp_agentkit.errors import ChildDied, DigestMismatch, InvalidFile, NvpError, UnknownName
from nvp_agentkit.fields.sequence import Boundary
from nvp_agentkit.messages import STARTER

from ..compute.cost import Cost, dearer
from ..compute.turns import Turns
from ..system import System
from .deadly import Deadly
from .room import Key, Price, Room, Shape

LOAD_LIMIT_S = 120.0
# CPU-seconds with an empty compile cache on busy cores: 3.3 to 4.2 for 48x48 to 512x512, and what the memory takes
# meanwhile counts as up to 1 more; 0.3 to 1.2 from the cache.
LOAD_CPU_S = 6.0
SHIPPED_CPU_S = 1.5  # more, with the starter model; 6.2 in all were seen
FORWARD_CPU_S_PER_CELL = 1.5e-6  # 0.6e-6 to 1.5e-6 with blocks of 4x4 cells
FORWARDS_OF_A_LOAD = 2  # one that compiles, one that is timed

log = structlog.get_logger()


@dataclass(frozen=True)
class Shipped:
    """The starter model for fields with such edges; ``tried``: on the last frame before it forecasts the next."""

    edges: tuple[Boundary, Boundary]
    positive: bool
    tried: bool
    voter: ClassVar[str] = STARTER

    @property
    def model_id(self) -> str:
        """What the child knows it by."""
        return " ".join([STARTER, *self.edges, *(["positive"] if self.positive else [])])


Model = Member | Shipped


class WarmModels:
    """Models and shapes that are ready in one compute child, as far as there is `Room`; a new child has none."""

    def __init__(self, system: System) -> None:
        self._system = system
        self._room = Room(system.settings.models_mb)
        self._untidy = False  # the child has more than is to stay
        self._generation = 0
        self._loading = Turns()
        self.deadly = Deadly()

    def price(self, member: Model, shape: Shape) -> Price:
        """What a forecast of this shape takes, as it has been seen or, before anything is loaded, as it is expected."""
        if known := self._known(member, shape):
            return known
        if isinstance(member, Shipped):
            load_s, times = LOAD_CPU_S + SHIPPED_CPU_S, 2 if member.tried else 1
        else:
            load_s, times = LOAD_CPU_S, dearer(*shape[-2:])
        forward_s = times * FORWARD_CPU_S_PER_CELL * shape[-2] * shape[-1]
        in_all_s = load_s + (FORWARDS_OF_A_LOAD + 1) * forward_s
        return Price(in_all_s, in_all_s, to_load=True)

    async def ready(
        self,
        member: Model,
        shape: Shape,
        *,
        account: str,
        batches: tuple[int, ...],
        standing: bool = False,
        deadline: float | None = None,
        on_cost: Callable[[Cost], object] | None = None,
    ) -> Price:
        """Have ``member`` in the child with ``shape`` compiled for these sizes of a batch, 1 among them.

        What is in service is loaded first, then the accounts take turns, one shape each.

        Args:
            account: whose it is.
            standing: it is in service: nothing but that makes it give way.
            deadline: Unix time in seconds after which no step of it is begun.
            on_cost: told what each step took, by whom it is paid; None: by the deployment.

        Raises:
            DeadlineExceeded: it is not ready until then.
            NoRoom: it does not fit beside what is in service.
            NotReady: the child died of it again and again, and it is left alone for a while.
            ChildDied: the child died of it. ComputeFailed: it died of something else meanwhile, or does not come up.
            NvpError: it cannot be loaded.
        """
        await self._system.child.start()
        if known := self._known(member, shape, batches):
            return known
        async with self._loading.turn(f"loading {member.voter}", who=account, long=not standing, until=deadline):
            if known := self._known(member, shape, batches):
                return known
            key = member.model_id, shape
            self.deadly.refuse(account, key)
            self._untidy |= self._room.admit(key, _bytes_of(member), account, standing=standing)
            try:
                price, generation = await self._load(member, shape, batches, deadline, on_cost)
            except BaseException as error:
                self._failed(key, account, error)
                raise
            self.deadly.loaded(account, key)
            self._renew()
            if generation == self._generation:  # a later child than it was admitted to, perhaps
                self._untidy |= self._room.admit(key, _bytes_of(member), account, standing=standing)
                self._room.compiled(key, account, batches, price)
            log.info("model ready", account=account, model=member.model_id, shape=shape)
            return price

    def _failed(self, key: Key, account: str, error: BaseException) -> None:
        self._room.failed(key[0])
        self._untidy = True  # the child may hold what the room forgot
        if isinstance(error, ChildDied):
            self.deadly.died(account, key, str(error), time.monotonic())

    def stands(self, standing: Mapping[Key, str]) -> None:
        """What is in service, and whose: it stays, whatever else is asked for."""
        self._room.stands(standing)

    def _known(self, member: Model, shape: Shape, batches: tuple[int, ...] = ()) -> Price | None:
        self._renew()
        return self._room.used((member.model_id, shape), batches)

    def _renew(self) -> None:
        if self._generation != self._system.child.generation:
            self._room.clear()
            self._generation = self._system.child.generation

    async def _load(
        self,
        member: Model,
        shape: Shape,
        batches: tuple[int, ...],
        deadline: float | None,
        on_cost: Callable[[Cost], object] | None,
    ) -> tuple[Price, int]:
        """What a forecast takes by its last step, and the generation of the child that has it: all steps need one."""
        generation = 0

        async def call(op: str, **params: Any) -> dict[str, Any]:
            nonlocal generation
            child = self._system.child
            async with child.turn(op, deadline, long=True):
                generation, ends = child.generation, time.time() + LOAD_LIMIT_S
                return (await child.call(op, params, deadline=ends, on_cost=on_cost, in_turn=True)).values

        if self._untidy:
            kept = [[model_id, shape[1:]] for model_id, shape in self._room.shapes]
            await call("keep", models=self._room.models, shapes=kept)
            self._untidy = False
        try:
            said = await call("load", model_id=member.model_id, source=await self._source(member))
            for batch in sorted(batches, reverse=True):
                said |= await call("ready", model_id=member.model_id, frames=list(shape), batch=batch)
        except (DigestMismatch, UnknownName, InvalidFile) as error:  # of our weights: nothing the asker could change
            raise NvpError(f"{member.voter} cannot load {member.model_id}: {error}") from error
        return Price(said["cpu_s"], said["wall_s"]), generation

    async def _source(self, model: Model) -> str | dict[str, Any]:
        """Where the child has it from: a file, or what it needs to know of the fields besides its own weights."""
        if isinstance(model, Shipped):
            return {"boundary": list(model.edges), "positive": model.positive}
        return str((await self._system.artifacts.local_path(model.weights)).resolve())


def _bytes_of(model: Model) -> int:
    """Of its weights; those that ship with the package are there once, whatever fields they are made for."""
    return 0 if isinstance(model, Shipped) else model.weights.bytes
