"""The checker of `benchmarks chaos` finds nothing where all went well, and each kind of wrong where it did not."""

from __future__ import annotations

import random
from collections.abc import AsyncIterator
from dataclasses import dataclass

import pytest
from redis.asyncio import Redis

from benchmarks.simulator.work import FIELD
from benchmarks.turmoil import checker, schedule
from benchmarks.turmoil.asker import Asker
from benchmarks.turmoil.child import COST_MJ
from nvp_agentkit.energy.ledger import Ledger
from nvp_agentkit.energy.meter import modelled
from nvp_agentkit.lineage.graph import Graph
from nvp_agentkit.messages import PredictionCompleted, PredictionRequested, new_event
from nvp_agentkit.settings import Settings
from nvp_agentkit.streams import Completion, Delivery, names, publish, register
from nvp_agentkit.streams.completion import Settlement, settle
from nvp_agentkit.workers import facts

READING = modelled(COST_MJ / 4000)
REQUEST = new_event(PredictionRequested(domain="plasma_physics", field=FIELD, model="trivial"), source="asker", id="r")


@dataclass
class Done:
    """One request, from asked to on record, as workers do it."""

    redis: Redis
    graph: Graph
    asker: Asker
    account: str

    async def found(self) -> checker.Found:
        return await checker.check(self.redis, self.graph, self.asker)

    def key(self, suffix: str) -> str:
        return names.key(self.account, suffix)


@pytest.fixture
async def done(
    redis: Redis, account: str, graph: object, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[Done]:
    monkeypatch.setattr(checker, "ACCOUNT", account)
    monkeypatch.setattr(checker, "PREFIX", f"nvp:{{{account}}}:")
    monkeypatch.setattr(checker, "EVERYTHING", f"nvp:*{account}*")
    ledger = Ledger(redis)
    await register(redis, account, owner="tests")
    await ledger.create(account, 10_000)
    entry = await publish(redis, account, "predict", REQUEST)
    await redis.xreadgroup("inference", "w", {names.key(account, "predict"): ">"})
    await ledger.reserve(account, "r", 5_000, expires_ms=1)
    await ledger.settle(account, "r", "voter-0", COST_MJ, seq=2, final=True)
    reply = PredictionCompleted(request_id="r", model_id="trivial:flow", mean=FIELD, log_var=FIELD, energy=READING)
    fact = facts.single_answer(Delivery(account, "", entry, REQUEST, 1), REQUEST.payload, reply)
    told = Completion(
        replies=(new_event(reply, source="w", replyto="r"),), facts=(new_event(fact, source="w"),), once="decided:r"
    )
    assert await settle(redis, "inference", "w", [Settlement(account, names.key(account, "predict"), entry, told)]) == [
        1
    ]
    lineage = names.key(account, "lineage")
    ((_, ((recorded, _),)),) = await redis.xreadgroup("recorder", "w", {lineage: ">"})
    await settle(redis, "recorder", "w", [Settlement(account, lineage, recorded.decode(), Completion())])
    asker = Asker(None)  # type: ignore[arg-type]  # it asks nothing here
    asker.accepted["r"] = schedule.Asked(0.0, "predict", "plain")
    async with Graph.connect(settings) as connected:
        assert await connected.write_each([fact]) == [None]
        yield Done(redis, connected, asker, account)


async def test_a_request_that_ended_as_it_should_is_not_complained_of(done: Done) -> None:
    found = await done.found()
    assert (found.wrong, found.exact, found.innocent) == ([], 1, [])


async def test_each_kind_of_wrong_is_found(done: Done) -> None:
    redis, ledger = done.redis, f"nvp:{{ledger}}:account:{done.account}"
    await redis.hset(done.key("reply:r"), "nvp.prediction.refused.v1", '{"data": {}}')
    assert "answered as" in str((await done.found()).doubled)
    await redis.hdel(done.key("reply:r"), "nvp.prediction.refused.v1")
    await redis.xadd(done.key("replies"), {"event": "again"})
    assert "entries were ever on replies" in str((await done.found()).doubled)
    await redis.hincrby(ledger, "spent", 1)
    assert "reservations were charged" in str((await done.found()).joules)
    await redis.hincrby(ledger, "reserved", 1)
    await redis.hincrby(ledger, "spent", -1)
    assert "reservations were charged" in str((await done.found()).joules)
    await redis.persist(done.key("decided:r"))
    assert (await done.found()).left == [f"{done.key('decided:r')} has no TTL"]
    await redis.expire(done.key("decided:r"), 10)
    await redis.xadd(done.key("predict"), {"event": "stuck"})
    assert "left on predict" in str((await done.found()).lost)
    done.asker.accepted["other"] = done.asker.accepted["r"]
    assert "other was acknowledged by the store" in str((await done.found()).forgotten)
    await redis.set(done.key("asked:other"), "its entry", ex=10)
    assert "other was accepted and never answered" in (await done.found()).lost


def test_the_schedule_is_the_seed_s() -> None:
    one, other = (random.Random(seed) for seed in (3, 4))
    again = random.Random(3)
    planned = [(schedule.asked(rng, 200), schedule.faults(rng, 100.0)) for rng in (one, other, again)]
    assert planned[0] == planned[2] != planned[1]
    assert {fault.kind for fault in planned[0][1] + planned[1][1]} == set(schedule.FAULTS)
