"""What workers do in a history: a stub of known cost, in the real joule window and behind the real refusals."""

from __future__ import annotations

import asyncio
from collections import Counter, defaultdict
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from functools import lru_cache, partial
from typing import Any

from benchmarks.simulator.link import Link
from benchmarks.simulator.plan import Fault, Message
from benchmarks.simulator.quorum import Ensemble
from benchmarks.simulator.values import EntryId, Stream, read_id, shown
from nvp_agentkit.errors import Cancelled, InvalidField, InvalidMessage, StoreUnavailable
from nvp_agentkit.messages import (
    ArrayRef,
    Event,
    JobCompleted,
    LineageRecorded,
    NodeFact,
    PredictionCompleted,
    PredictionRequested,
    Reading,
    VoteCast,
    decode,
    new_event,
)
from nvp_agentkit.settings import VOTERS
from nvp_agentkit.streams import Completion, Delivery, names
from nvp_agentkit.workers import joules, refusals
from nvp_agentkit.workers.compute.cost import Cost
from nvp_agentkit.workers.jobs import cancelling
from nvp_agentkit.workers.requests import body
from nvp_agentkit.workers.serving.same_question import Questions, question, remembered
from nvp_agentkit.workers.system import System

WATTS_PER_CORE = 4.0
STEP_S = 0.2  # of a job
FIELDS = tuple(
    ArrayRef(shape=(16, 16), digest=f"sha256:{number:064d}", uri=f"memory://field-{number}") for number in range(3)
)
FIELD = FIELDS[0]


@dataclass
class Run:
    """One attempt at a request, as it really was."""

    attempt: int
    used_mj: int = 0
    ended: bool = False  # the work itself; not yet what comes of it
    over_s: float = 0.0  # when
    silent: int = 0  # attempts before it that ended in their worker's silence
    beside: int = 0  # other entries that were in the same worker's hands as it began
    together: bool = False  # the same question was being worked on in the same process


@dataclass
class Record:
    """What happened outside the store, for the checker."""

    accepted: dict[str, float] = field(default_factory=dict)  # request -> when the store had it at the latest
    cancelled: dict[str, float] = field(default_factory=dict)  # job -> when the store had at the latest that it was
    runs: dict[str, list[Run]] = field(default_factory=lambda: defaultdict(list))
    lost_at: float = -1.0  # when the store last lost data
    struck: bool = False  # something happened that was in the plan, or a worker died of a message


class Child:
    """As much of a compute child as can be told to stop."""

    def __init__(self) -> None:
        self.reason = ""

    async def interrupt(self, reason: str) -> None:
        self.reason = reason


class Work:
    """The handlers of one process."""

    def __init__(
        self, system: System, link: Callable[[], Link], messages: dict[str, Message], record: Record, ensemble: Ensemble
    ) -> None:
        self._system, self._link, self._ensemble = system, link, ensemble
        self._messages, self._record = messages, record
        self._questions, self._at_work = Questions(system.redis), Counter[int]()

    async def predict(self, delivery: Delivery) -> Completion:
        """As `workers.inference` does."""
        number, asked = self._messages[delivery.request_id].question, ""
        if number:
            asked = question(body(delivery, PredictionRequested), ensemble="e", model_id="m", units="1")
        forecast = partial(self._forecast, delivery)
        reply = await (self._questions.once(delivery, asked, forecast) if asked else forecast())
        if reply.cached:
            await joules.close_earlier(self._system, delivery, part="voter-0")
        told, recorded = _answers(delivery.request_id, reply.energy, reply.cached)
        fields = remembered(asked, delivery.request_id) if asked and not reply.cached else ()
        return refusals.final(delivery.request_id, delivery.deadline, told, recorded)._replace(fields=fields)

    async def _forecast(self, delivery: Delivery) -> PredictionCompleted:
        message, run = self._begin(delivery)
        run.together = message.question > 0 and self._at_work[message.question] > 0
        self._at_work[message.question] += 1
        try:
            return await self._compute(delivery, message, run)
        finally:
            self._at_work[message.question] -= 1

    async def _compute(self, delivery: Delivery, message: Message, run: Run) -> PredictionCompleted:
        async with joules.window(self._system, delivery, part="voter-0", parts=1) as energy:
            energy.afford(message.used_mj, "a forecast")
            await self._meet_fate(message, delivery)
            await asyncio.sleep(message.work_s)
            run.used_mj, run.ended = message.used_mj, True
            reading = energy.charge(_cost(message.used_mj))
        return _forecast(delivery.request_id, reading)

    async def job(self, delivery: Delivery) -> Completion:
        """As `workers.training` does: settled step by step, given up when it is not wanted or another has its lease."""
        message, run = self._begin(delivery)
        async with joules.window(self._system, delivery, part="job", parts=1) as energy:
            await cancelling.require_wanted(delivery, self._system)
            self._child.reason = ""
            async with cancelling.while_wanted(delivery, self._system), energy.kept_settled():
                steps = 1 + round(message.work_s / STEP_S)
                for step in range(steps):
                    await asyncio.sleep(message.work_s / steps)
                    await self._meet_fate(message, delivery)
                    if reason := self._child.reason:
                        energy.charge(_cost(run.used_mj))
                        raise Cancelled(reason)
                    run.used_mj = message.used_mj * (step + 1) // steps
                    energy.progressed(run.used_mj)
            run.ended, run.over_s = True, asyncio.get_running_loop().time()
            reading = energy.charge(_cost(message.used_mj))
        told, recorded = _trained(delivery.request_id, reading)
        done = Completion(replies=(told,), facts=(recorded,))
        return refusals.final_of_job(delivery.request_id, delivery.deadline, done)

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

    @property
    def _child(self) -> Child:
        child: Any = self._system.child
        assert isinstance(child, Child)
        return child

    def _begin(self, delivery: Delivery) -> tuple[Message, Run]:
        run = Run(delivery.attempt, silent=delivery.silent, beside=self._beside(delivery))
        self._record.runs[delivery.request_id].append(run)
        return self._messages[delivery.request_id], run

    def _beside(self, delivery: Delivery) -> int:
        """Other entries in the hands of who has this one."""
        held, entry_id = self._link().store.values.get(delivery.stream.encode()), read_id(delivery.entry_id.encode())
        beside = 0
        for name, group in held.groups.items() if isinstance(held, Stream) else ():
            mine = group.pending.get(entry_id)
            if mine is None or not mine.consumer.startswith(self._system.name.encode()):
                continue
            for other, pending in group.pending.items():
                if other != entry_id and pending.consumer == mine.consumer:
                    beside += self._in_hand(delivery.stream, name, other, pending.deliveries)
        return beside

    def _in_hand(self, stream: str, group: bytes, other: EntryId, deliveries: int) -> bool:
        """Whether its last delivery has not ended by being given back, to be tried again later."""
        store, entry = self._link().store, shown(other).decode()
        given_back = int(store.get(names.given_back(stream, group.decode(), entry).encode(), bytes) or 0)
        held = store.get(stream.encode(), Stream)
        fields = held.entries.get(other, []) if held else []
        runs: list[Run] = []
        with suppress(KeyError, InvalidMessage):  # nobody works on what is no message
            runs = self._record.runs[decode(dict(zip(fields[::2], fields[1::2], strict=True))[b"event"]).id]
        return deliveries - given_back > (runs[-1].silent if runs else 0)

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


def _cost(used_mj: int) -> Cost:
    return Cost(cpu_s=used_mj / (1000 * WATTS_PER_CORE))


@lru_cache(4096)
def _forecast(request_id: str, reading: Reading, cached: str | None = None) -> PredictionCompleted:
    return PredictionCompleted(
        request_id=request_id, model_id="m", mean=FIELD, log_var=FIELD, energy=reading, cached=cached
    )


@lru_cache(4096)
def _answers(request_id: str, reading: Reading, cached: str | None) -> tuple[Event, Event]:
    reply = _forecast(request_id, reading, cached)
    return new_event(reply, source="nvp:worker", replyto=request_id), fact(request_id)


@lru_cache(4096)
def _trained(request_id: str, reading: Reading) -> tuple[Event, Event]:
    reply = JobCompleted(job_id=request_id, kind="train", energy=reading, seconds=1.0)
    return new_event(reply, source="nvp:worker", replyto=request_id), fact(request_id)


def fact(request_id: str, label: str = "Decision", **more: str) -> Event:
    node = NodeFact(label=label, id=f"{label}:{request_id}", properties={"request_id": request_id, **more})
    return new_event(LineageRecorded(nodes=(node,), edges=()), source="nvp:worker")
