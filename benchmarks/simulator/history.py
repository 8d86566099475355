"""A plan, played: real consumers and ledger in processes that die, freeze and lose their store, until all is quiet."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from benchmarks.simulator.asked import asked, taken_back
from benchmarks.simulator.checker import Witnessed, wrong
from benchmarks.simulator.client import ModelRedis
from benchmarks.simulator.doors import Doors
from benchmarks.simulator.link import Link, Server
from benchmarks.simulator.loop import START_S, Process, World
from benchmarks.simulator.plan import Fault, Message, Plan
from benchmarks.simulator.quorum import Ensemble, Shelf
from benchmarks.simulator.scripts import Scripts, product_functions
from benchmarks.simulator.store import Store
from benchmarks.simulator.work import WATTS_PER_CORE, Child, Record, Work
from benchmarks.simulator.workers import serve
from nvp_agentkit.energy.ledger import Ledger
from nvp_agentkit.errors import StoreUnavailable
from nvp_agentkit.messages import (
    Event,
    PredictionAbstained,
    new_event,
)
from nvp_agentkit.settings import Settings
from nvp_agentkit.streams import RedisError, publish, register
from nvp_agentkit.streams.names import key
from nvp_agentkit.workers.serving.registry import registration
from nvp_agentkit.workers.system import System
from nvp_agentkit.workers.tally import Tally

ACCOUNT = "ace"
HORIZON_S = 90.0
LOOK_S, AGAIN_S = 0.1, 0.1
DRAIN_S = 30.0
FAR_MS = 2**52  # later than any reservation expires


@dataclass
class Place:
    """Where one process after the other works, each with the same redis-py client and a link of its own."""

    number: int
    redis: ModelRedis
    system: System
    teller: Tally
    calls: int = 0
    stop: asyncio.Event = field(default_factory=asyncio.Event)


class Stage:
    """What all histories of this process share: clients (costly to make), compiled functions, the doors."""

    def __init__(self) -> None:
        self.doors, self.scripts = Doors(), Scripts()
        self._functions = [self.scripts.sha(text) for text in product_functions()]
        self._places: list[Place] = []
        self._prepared: dict[int, Any] = {}
        self._shelf = Shelf()
        self.ensemble = Ensemble(self._shelf)
        self._settings = Settings(data_dir=self.ensemble.data_dir, watts_per_core=WATTS_PER_CORE)
        new_event(PredictionAbstained(request_id="r", reason="so that the classes are built"), source="s").encode()

    @contextmanager
    def open(self) -> Iterator[Stage]:
        try:
            with self.doors.open():
                yield self
        finally:
            self.ensemble.close()

    def places(self, count: int) -> list[Place]:
        for number in range(len(self._places), count):
            redis = ModelRedis()
            name, shelf = f"place-{number}", self._shelf
            system = System(name, self._settings, redis, shelf, Ledger(redis), Child())  # type: ignore[arg-type]
            self._places.append(Place(number, redis, system, Tally(system)))
        for place in self._places:
            place.calls = 0
        return self._places[:count]

    def play(self, plan: Plan, tell: Callable[[str], None] | None = None) -> list[str]:
        """What went wrong in the history of ``plan``, in words; ``tell`` hears all of it, call by call."""
        if plan.limit_mj not in self._prepared:
            before = History(plan, self)
            before.prepare()
            self._prepared[plan.limit_mj] = before.store.snapshot()
        history = History(plan, self, tell)
        history.store.restore(self._prepared[plan.limit_mj])
        history.store.functions = set() if plan.fresh else set(self._functions)
        return history.play()


class History:
    def __init__(self, plan: Plan, stage: Stage, tell: Callable[[str], None] | None = None) -> None:
        self._plan, self._stage = plan, stage
        self._world = World()
        stage.doors.begin(self._world, plan.seed)
        self.store = Store(lambda: 1000 * (START_S + self._world.now), stage.scripts)
        self._server, self._tell = Server(self._world, self.store, tell), tell
        self._record, self._seen = Record(), Witnessed(self.store)
        *self._workers, self._asker, self._keeper = stage.places(plan.workers + 2)
        urgent, jobs = key(ACCOUNT, "urgent").encode(), key(ACCOUNT, "jobs").encode()
        self.store.rivals = {urgent: jobs, jobs: urgent}
        self._links: list[Link] = []
        self._messages = {f"request-{number:04d}": one for number, one in enumerate(plan.messages)}
        self._asked = self._over = False
        self._serving: set[int] = set()
        self._broken: list[str] = []

    def prepare(self) -> None:
        """The account, its streams and its joules."""
        self._finish(self._make_account())

    def play(self) -> list[str]:
        for place in self._workers:
            self._work(place)
        self._begin(self._asker, self._ask())
        for fault in self._plan.faults:
            if fault.who < 0:
                self._world.at(fault.at_s, None, self._happen, fault)
        self._look()
        self._world.run(HORIZON_S)
        quiet, self._over = self._quiet(), True
        for place in self._workers:
            self._stop(place)
        if self._serving:
            self._world.run(self._world.now + DRAIN_S)
        if self._serving:
            self._broken.append(f"{len(self._serving)} workers do not end")
        until_s = self._world.now
        while any(link.busy for link in self._links):  # what they sent has still to arrive
            until_s += LOOK_S  # the world's own time stands still until something happens
            self._world.run(until_s)
        self._finish(self._keeper.system.ledger.reap(FAR_MS))
        self._end()
        return self._broken + wrong(self._plan, self._messages, self._record, self._seen, quiet=quiet)

    def _finish(self, last: Any) -> None:
        """Let the keeper do this one thing."""
        task = self._begin(self._keeper, last)
        task.add_done_callback(lambda _: self._world.stop())
        self._world.run(HORIZON_S + 2 * DRAIN_S)
        task.result()

    def _end(self) -> None:
        for link in self._links:
            link.void = True
        for process in self._world.processes:
            process.end()

    def _begin(self, place: Place, main: Any) -> asyncio.Task[Any]:
        """A new process at ``place``."""
        chance = random.Random((self._plan.seed << 16) + (place.number << 8) + len(self._links))
        faults = {fault.call: fault for fault in self._plan.faults if fault.who == place.number}
        process = Process(self._world, place.system.name)  # type: ignore[abstract]  # what is missing is not used
        place.redis.link = link = Link(
            self._server, process, self._world, chance, self._plan.slowest_s, faults, place.calls,
            partial(self._struck, place),
        )  # fmt: skip
        self._links.append(link)
        return process.start(main)

    def _work(self, place: Place) -> None:
        if self._over:
            return
        self._serving.add(place.number)
        place.stop = asyncio.Event()
        self._begin(place, self._serve(place, place.stop))

    async def _serve(self, place: Place, stop: asyncio.Event) -> None:
        work = Work(place.system, lambda: place.redis.link, self._messages, self._record, self._stage.ensemble)
        try:
            await serve(self._plan, place.number, place.system, work, stop, place.teller)
        except Exception as error:  # noqa: BLE001 - whatever ends a worker is a defect
            self._broken.append(f"a worker ended: {type(error).__name__}: {error}")
        self._again(place)

    def _again(self, place: Place) -> None:
        self._serving.discard(place.number)
        if self._over:
            if not self._serving:
                self._world.stop()
            return
        place.calls = place.redis.link.calls
        self._world.at(self._world.now + AGAIN_S, None, self._work, place)

    def _struck(self, place: Place, fault: Fault) -> None:
        self._say(place.system.name, fault)
        self._record.struck = True
        if fault.kind == "stop":
            self._stop(place)
        elif fault.kind == "kill" and place is self._asker:
            self._asked = True
        elif fault.kind == "kill":
            self._again(place)

    def _stop(self, place: Place) -> None:
        self._world.at(self._world.now, place.redis.link.process, place.stop.set)

    async def _ask(self) -> None:
        await asyncio.gather(*(self._ask_one(request_id, one) for request_id, one in self._messages.items()))
        self._asked = True

    async def _ask_one(self, request_id: str, message: Message) -> None:
        await asyncio.sleep(message.at_s)
        suffix, event = asked(request_id, message)
        for _ in range(message.copies):
            self._record.accepted[request_id] = await self._publish(suffix, event)
        if message.cancel_s is not None:
            await asyncio.sleep(message.cancel_s)
            await self._publish(*taken_back(request_id))
            self._record.cancelled[request_id] = self._world.now

    async def _publish(self, suffix: str, event: Event) -> float:
        """Until the store has it; when it had it at the earliest."""
        while True:
            began = self._world.now
            try:
                await publish(self._asker.redis, ACCOUNT, suffix, event)
            except StoreUnavailable:
                await asyncio.sleep(AGAIN_S)
            else:
                return began

    def _happen(self, fault: Fault) -> None:
        """To the store."""
        self._say("store", fault)
        self._record.struck = True
        match fault.kind:
            case "restart":
                self._server.restart(fault.for_s)
            case "forget_scripts":
                self.store.functions.clear()
            case "full":
                self.store.full = True
                self._world.at(self._world.now + fault.for_s, None, self._has_room)
            case "flush":
                self.store.flush()
                self._lose()
                self._server.wake()
                self._world.at(self._world.now + AGAIN_S, None, self._open_again)
            case "roll_back":
                saved = self.store.snapshot()
                self._world.at(self._world.now + fault.for_s, None, self._roll_back, saved)

    def _roll_back(self, saved: Any) -> None:
        self._server.restart(AGAIN_S)
        self.store.restore(saved)
        self._lose()
        self._world.at(self._world.now + AGAIN_S, None, self._open_again)

    def _lose(self) -> None:
        self._record.lost_at = self._world.now
        self._seen.forget()

    def _open_again(self) -> None:
        self._begin(self._keeper, self._make_account())

    def _has_room(self) -> None:
        self.store.full = False

    async def _make_account(self) -> None:
        while True:
            try:
                redis, record = self._keeper.redis, self._stage.ensemble.record
                await register(redis, ACCOUNT, owner="histories")
                for suffix, name, value in registration(record):
                    await redis.hset(key(ACCOUNT, suffix), name, value)
                await self._keeper.system.ledger.create(ACCOUNT, self._plan.limit_mj)
            except (RedisError, StoreUnavailable):
                await asyncio.sleep(AGAIN_S)
            else:
                return

    def _say(self, who: str, fault: Fault) -> None:
        if self._tell is not None:
            self._tell(f"{self._world.now:9.4f} {who}: {fault.kind}")

    def _look(self) -> None:
        """Is it over?"""
        now = self._world.now
        busy = any(now < fault.at_s + fault.for_s for fault in self._plan.faults if fault.who < 0)
        if self._asked and not busy and self._quiet():
            self._world.stop()
        else:
            self._world.at(now + LOOK_S, None, self._look)

    def _quiet(self) -> bool:
        return not (self._asker.redis.link.busy or self._seen.waiting(ACCOUNT))
