"""Workers that steal, crash and come back in any order: each message has its effect once, none is lost."""

from __future__ import annotations

import asyncio
from collections import Counter
from typing import Any
from uuid import uuid4

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule, run_state_machine_as_test
from redis.asyncio import Redis

from nvp_agentkit.streams import Completion, names, register
from nvp_agentkit.streams.completion import Settlement, settle
from nvp_agentkit.streams.delivery import Delivery, Entry, open_entry
from nvp_agentkit.streams.intake import Intake
from nvp_agentkit.streams.leases import Leases

WORKERS = st.integers(0, 2)


class Worker:
    """One process's hands. With a lease of 0 s every sweep takes whatever anybody holds: the worst neighbour."""

    def __init__(self, redis: Redis) -> None:
        self.name = uuid4().hex[:8]
        self.intake = Intake(redis, kinds=("predict",), group="inference", consumer=self.name, lease_s=0)
        self.leases = Leases(redis, group="inference", consumer=self.name, lease_s=0)
        self.believes: dict[str, Entry] = {}


class Consumers(RuleBasedStateMachine):
    """The model: who holds which entry. Redis has to agree with it after every step."""

    def __init__(self, url: str, request: Any) -> None:
        super().__init__()
        self.loop, self.request = asyncio.Runner(loop_factory=asyncio.new_event_loop), request
        self.account = f"test-{uuid4().hex[:12]}"
        self.redis = Redis.from_url(url, socket_timeout=None)
        self.loop.run(register(self.redis, self.account, owner="tests"))
        self.workers = [Worker(self.redis) for _ in range(3)]
        self.published: list[str] = []
        self.holder: dict[str, str] = {}
        self.done: Counter[str] = Counter()

    @rule()
    def publish(self) -> None:
        event = self.request()
        self.loop.run(self.redis.xadd(names.key(self.account, "predict"), {"event": event.encode()}))
        self.published.append(event.id)

    @rule(index=WORKERS, room=st.integers(1, 4))
    def take(self, index: int, room: int) -> None:
        worker = self.workers[index]
        for entry in self.loop.run(worker.intake.take(room, 0.001)):
            worker.believes[entry.entry_id] = entry
            self.holder[entry.entry_id] = worker.name

    @precondition(lambda self: any(worker.believes for worker in self.workers))
    @rule(data=st.data())
    def complete(self, data: st.DataObject) -> None:
        worker, entry = self._one(data)
        delivery = open_entry(entry)
        field = ("models", f"{delivery.request_id} {worker.name}", "done")
        settlement = Settlement(self.account, entry.stream, entry.entry_id, Completion(fields=(field,)))
        (result,) = self.loop.run(settle(self.redis, "inference", worker.name, [settlement]))
        assert bool(result) == (self.holder.get(entry.entry_id) == worker.name)
        if result:
            del self.holder[entry.entry_id]
            self.done[delivery.request_id] += 1

    @precondition(lambda self: any(worker.believes for worker in self.workers))
    @rule(data=st.data())
    def renew(self, data: st.DataObject) -> None:
        worker, entry = self._one(data)
        delivery = open_entry(entry)
        self.loop.run(self._renew(worker, delivery))
        assert delivery.lost.is_set() == (self.holder.get(entry.entry_id) != worker.name)

    @precondition(lambda self: any(worker.believes for worker in self.workers))
    @rule(data=st.data())
    def hand_back(self, data: st.DataObject) -> None:
        worker, entry = self._one(data)
        self.loop.run(worker.leases.release([entry], wait_s=0, counted=False))
        del worker.believes[entry.entry_id]

    @rule(index=WORKERS)
    def crash(self, index: int) -> None:
        self.workers[index] = Worker(self.redis)

    @invariant()
    def each_effect_is_there_once(self) -> None:
        fields = self.loop.run(self.redis.hkeys(names.key(self.account, "models")))
        assert Counter(field.split()[0].decode() for field in fields) == self.done
        assert max(self.done.values(), default=1) == 1

    def teardown(self) -> None:
        try:
            last = Worker(self.redis)
            looks = 2 * len(self.published)  # at most: an empty look between two sweeps is none too many
            while self.loop.run(self.redis.xlen(names.key(self.account, "predict"))) and (looks := looks - 1):
                entries = self.loop.run(last.intake.take(8, 0.001))
                settlements = [Settlement(self.account, e.stream, e.entry_id, Completion()) for e in entries]
                assert self.loop.run(settle(self.redis, "inference", last.name, settlements)) == [1] * len(entries)
                self.done.update(open_entry(entry).request_id for entry in entries)
            assert self.done == Counter(self.published)
        finally:
            self.loop.run(self._clean())
            self.loop.close()

    async def _renew(self, worker: Worker, delivery: Delivery) -> None:
        with worker.leases.holding([delivery]):
            await worker.leases._renew()

    async def _clean(self) -> None:
        await self.redis.hdel(names.ACCOUNTS, self.account)
        await self.redis.delete(*[key async for key in self.redis.scan_iter(match=names.key(self.account, "*"))])
        await self.redis.aclose()

    def _one(self, data: st.DataObject) -> tuple[Worker, Entry]:
        worker = data.draw(st.sampled_from([worker for worker in self.workers if worker.believes]))
        return worker, worker.believes[data.draw(st.sampled_from(sorted(worker.believes)))]


def test_no_order_of_thefts_and_crashes_loses_or_doubles_an_effect(valkey, make_request):
    run_state_machine_as_test(
        lambda: Consumers(valkey, make_request),
        settings=settings(
            max_examples=25, stateful_step_count=30, deadline=None, suppress_health_check=list(HealthCheck)
        ),
    )
