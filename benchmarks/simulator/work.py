"""What workers do in a history: a stub of known cost, in the real joule window and behind the real refusals."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import lru_cache

from benchmarks.simulator.link import Link
from benchmarks.simulator.plan import Fault, Message
from benchmarks.simulator.quorum import Ensemble
from benchmarks.simulator.store import Store
from benchmarks.simulator.values import Stream, read_id
from nvp_agentkit.errors import InvalidField, StoreUnavailable
from nvp_agentkit.messages import (
    ArrayRef,
    Event,
    JobCompleted,
    LineageRecorded,
    NodeFact,
    PredictionCompleted,
    Reading,
    VoteCast,
    new_event,
)
from nvp_agentkit.settings import VOTERS
from nvp_agentkit.streams import Completion, Delivery
from nvp_agentkit.workers import joules, refusals
from nvp_agentkit.workers.compute.cost import Cost
from nvp_agentkit.workers.system import System

WATTS_PER_CORE = 4.0
STEP_S = 0.2  # of a job
DIGEST = "sha256:" + 64 * "0"
FIELD = ArrayRef(shape=(16, 16), digest=DIGEST, uri="memory://field")


@dataclass
class Run:
    """One attempt at a request, as it really was."""

    attempt: int
    used_mj: int = 0
    ended: bool = False  # the work itself; not yet what comes of it
    beside: int = 0  # other entries that were in the same worker's hands as it began


@dataclass
class Record:
    """What happened outside the store, for the checker."""

    accepted: dict[str, float] = field(default_factory=dict)  # request -> when the store had it at the latest
    runs: dict[str, list[Run]] = field(default_factory=lambda: defaultdict(list))
    lost_at: float = -1.0  # when the store last lost data
    struck: bool = False  # something happened that was in the plan, or a worker died of a message


class Work:
    """The handlers of one place."""

    def __init__(
        self, system: System, link: Callable[[], Link], messages: dict[str, Message], record: Record, ensemble: Ensemble
    ) -> None:
        self._system, self._link, self._ensemble = system, link, ensemble
        self._messages, self._record = messages, record

    async def predict(self, delivery: Delivery) -> Completion:
        message, run = self._begin(delivery)
        async with joules.window(self._system, delivery, part="voter-0", parts=1) as energy:
            energy.afford(message.used_mj, "a forecast")
            await self._meet_fate(message, delivery)
            await asyncio.sleep(message.work_s)
            run.used_mj, run.ended = message.used_mj, True
            reading = energy.charge(_cost(message.used_mj))
        told, recorded = _forecast(delivery.request_id, reading)
        return refusals.final(delivery.request_id, delivery.deadline, told, recorded)

    async def job(self, delivery: Delivery) -> Completion:
        """Settled while it goes on, step by step, and given up when its lease went to another."""
        message, run = self._begin(delivery)
        async with joules.window(self._system, delivery, part="job", parts=1) as energy:
            async with energy.kept_settled():
                steps = 1 + round(message.work_s / STEP_S)
                for step in range(steps):
                    await asyncio.sleep(message.work_s / steps)
                    await self._meet_fate(message, delivery)
                    if delivery.lost.is_set():
                        raise StoreUnavailable("another worker has this job now")
                    run.used_mj = message.used_mj * (step + 1) // steps
                    energy.progressed(run.used_mj)
            run.ended = True
            reading = energy.charge(_cost(message.used_mj))
        told, recorded = _trained(delivery.request_id, reading)
        return Completion(replies=(told,), facts=(recorded,))

    async def vote(self, delivery: Delivery, voter: str) -> Completion:
        """As `workers.shadow` does; those that differ say what no other voter does."""
        message, run = self._begin(delivery)
        async with joules.window(self._system, delivery, part=voter, parts=len(VOTERS)) as energy:
            energy.afford(message.used_mj, "a vote")
            await self._meet_fate(message, delivery)
            await asyncio.sleep(message.work_s)
            run.used_mj, run.ended = message.used_mj, True
            reading = energy.charge(_cost(message.used_mj))
        place = VOTERS.index(voter)
        odd = place + 1 if place >= len(VOTERS) - message.differing else 0
        envelope, signature = self._ensemble.envelope(voter, delivery.request_id, FIELD.digest, odd)
        cast = VoteCast(
            request_id=delivery.request_id,
            request_digest=FIELD.digest,
            record=self._ensemble.record.digest,
            voter=voter,
            envelope=envelope,
            energy=reading,
        )
        recorded = fact(delivery.request_id, label="Vote", voter=voter, signature=signature)
        return Completion(facts=(recorded,), forwards=(("votes", self._system.event(cast, delivery)),))

    def _begin(self, delivery: Delivery) -> tuple[Message, Run]:
        run = Run(delivery.attempt, beside=_beside(self._link().store, delivery))
        self._record.runs[delivery.request_id].append(run)
        return self._messages[delivery.request_id], run

    async def _meet_fate(self, message: Message, delivery: Delivery) -> None:
        await self._link().step()
        again = len(self._record.runs[delivery.request_id]) <= message.times
        match message.fate:
            case "refused":
                raise InvalidField("field of no use; send another one")
            case "defect":
                raise ValueError("a defect")
            case "flaky" if again:
                raise StoreUnavailable("a store is away")
            case "deadly" if again:
                self._record.struck = True
                await self._link().strike(Fault("kill", -1))
            case _:
                return


def _beside(store: Store, delivery: Delivery) -> int:
    held = store.values.get(delivery.stream.encode())
    groups = held.groups.values() if isinstance(held, Stream) else ()
    entry_id = read_id(delivery.entry_id.encode())
    return sum(group.held_by(group.pending[entry_id].consumer) - 1 for group in groups if entry_id in group.pending)


def _cost(used_mj: int) -> Cost:
    return Cost(cpu_s=used_mj / (1000 * WATTS_PER_CORE))


@lru_cache(4096)
def _forecast(request_id: str, reading: Reading) -> tuple[Event, Event]:
    reply = PredictionCompleted(
        request_id=request_id, model_id="trivial:persistence", mean=FIELD, log_var=FIELD, energy=reading
    )
    return new_event(reply, source="nvp:worker", replyto=request_id), fact(request_id)


@lru_cache(4096)
def _trained(request_id: str, reading: Reading) -> tuple[Event, Event]:
    reply = JobCompleted(job_id=request_id, kind="train", energy=reading, seconds=1.0)
    return new_event(reply, source="nvp:worker", replyto=request_id), fact(request_id)


def fact(request_id: str, label: str = "Decision", **more: str) -> Event:
    node = NodeFact(label=label, id=f"{label}:{request_id}", properties={"request_id": request_id, **more})
    return new_event(LineageRecorded(nodes=(node,), edges=()), source="nvp:worker")
