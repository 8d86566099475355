"""The checker of `benchmarks chaos` finds nothing where all went well, and each kind of wrong where it did not."""

from __future__ import annotations

import json
import random
from collections.abc import AsyncIterator
from dataclasses import dataclass

import numpy as np
import pytest
from redis.asyncio import Redis

from benchmarks.real_events import RULE
from benchmarks.simulator.work import FIELD
from benchmarks.turmoil import checker, schedule
from benchmarks.turmoil.asker import Asker
from benchmarks.turmoil.child import COST_MJ
from benchmarks.turmoil.found import Found
from nvp_agentkit.energy.ledger import Ledger
from nvp_agentkit.energy.meter import modelled
from nvp_agentkit.ensemble import EnsembleRecord, Member, make_vote
from nvp_agentkit.ensemble.decision import Decision
from nvp_agentkit.lineage.graph import Graph
from nvp_agentkit.messages import (
    LineageRecorded,
    ObjectRef,
    PredictionCertified,
    PredictionCompleted,
    PredictionRequested,
    VoteCast,
    new_event,
)
from nvp_agentkit.settings import VOTERS, Settings
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

    async def found(self) -> Found:
        return await checker.check(self.redis, self.graph, self.asker)

    def key(self, suffix: str) -> str:
        return names.key(self.account, suffix)

    async def end(self, suffix: str, group: str, *each: Completion) -> None:
        """What waits on a stream ends so."""
        found = await self.redis.xreadgroup(group, "w", {self.key(suffix): ">"})
        ids = [entry_id.decode() for _, entries in found for entry_id, _ in entries]
        ends = [Settlement(self.account, self.key(suffix), *pair) for pair in zip(ids, each, strict=True)]
        assert await settle(self.redis, group, "w", ends) == [1] * len(each)

    async def record(self, fact: LineageRecorded) -> None:
        """As the recorder does."""
        await self.end("lineage", "recorder", Completion())
        assert await self.graph.write_each([fact]) == [None]


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
    await publish(redis, account, "predict", REQUEST)
    await ledger.reserve(account, "r", 5_000, expires_ms=1)
    await ledger.settle(account, "r", "voter-0", COST_MJ, seq=2, final=True)
    reply = PredictionCompleted(request_id="r", model_id="trivial:flow", mean=FIELD, log_var=FIELD, energy=READING)
    fact = facts.single_answer(Delivery(account, "", "1-1", REQUEST, 1), REQUEST.payload, reply)
    told = Completion(
        replies=(new_event(reply, source="w", replyto="r"),), facts=(new_event(fact, source="w"),), once="decided:r"
    )
    asker = Asker(None)  # type: ignore[arg-type]  # it asks nothing here
    asker.accepted["r"] = schedule.Asked(0.0, "predict", "plain")
    async with Graph.connect(settings) as connected:
        done = Done(redis, connected, asker, account)
        await done.end("predict", "inference", told)
        await done.record(fact)
        yield done


@pytest.fixture
async def quorum(done: Done) -> Done:
    """And a quorum, which certified what two of three had said by then."""
    account, certificate = done.account, ObjectRef(uri="artifact:none", digest=FIELD.digest, bytes=1)
    members = [Member(voter=voter, model_id=f"model:{voter}", weights=certificate) for voter in VOTERS]
    record = EnsembleRecord(domain="plasma_physics", members=tuple(members), rule=RULE)
    asked = PredictionRequested(domain="plasma_physics", field=FIELD, assurance="quorum")
    await publish(done.redis, account, "ensemble", new_event(asked, source="asker", id="q"))
    done.asker.accepted["q"] = schedule.Asked(0.0, "ensemble", "plain")
    ledger = Ledger(done.redis)
    await ledger.reserve(account, "q", 3_000, expires_ms=1, parts=3)
    for voter in VOTERS:
        await ledger.settle(account, "q", voter, COST_MJ, seq=2, final=True)
        said = make_vote(record, voter, np.ones(FIELD.shape[-2:], np.float32), refs=(FIELD, FIELD), request_id="q",
                         request_digest=FIELD.digest, issued_at_ms=1)  # fmt: skip
        cast = VoteCast(request_id="q", request_digest=FIELD.digest, record=record.digest, voter=voter, failed="a stub")
        fact = facts.cast_vote(account, said, "a signature", READING)
        vote = Completion(facts=(new_event(fact, source="w"),), forwards=(("votes", new_event(cast, source="w")),))
        await done.end("ensemble", voter, vote)
        await done.record(fact)
    await done.end("ensemble", "tally", Completion())
    agreed = VOTERS[:2]
    decision = Decision("accepted", 2, agreed=agreed, missing={VOTERS[2]: "none by then"})
    fact = facts.decided(account, "q", record, decision, tally="tally", field_digest=FIELD.digest,
                         value_digest=FIELD.digest, certificate=certificate)  # fmt: skip
    reply = PredictionCertified(request_id="q", mean=FIELD, log_var=FIELD, certificate=certificate, agreed=agreed,
                                energy=modelled(2 * COST_MJ / 4000))  # fmt: skip
    told = Completion(replies=(new_event(reply, source="w", replyto="q"),), facts=(new_event(fact, source="w"),))
    await done.end("votes", "tally", Completion(), told, Completion())
    await done.record(fact)
    return done


async def test_a_request_that_ended_as_it_should_is_not_complained_of(done: Done) -> None:
    found = await done.found()
    assert (found.wrong, found.exact, found.innocent) == ([], 1, [])


async def test_each_kind_of_wrong_is_found(done: Done) -> None:
    redis, ledger = done.redis, f"nvp:{{ledger}}:account:{done.account}"
    await redis.hset(done.key("reply:r"), "nvp.prediction.refused.v1", '{"data": {}}')
    assert "answered as" in str((await done.found()).doubled)
    await redis.hdel(done.key("reply:r"), "nvp.prediction.refused.v1")
    await redis.xadd(done.key("replies"), {"event": "again"})
    assert "entries were ever on {'replies': 2" in str((await done.found()).doubled)
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


async def test_what_is_done_and_still_holds_joules_is_found_before_they_are_reaped(done: Done) -> None:
    assert await checker.unsettled(done.redis, done.asker) == []
    await done.redis.hset(f"nvp:{{ledger}}:reservation:{done.account}:r", "state", "open")
    held = await checker.unsettled(done.redis, done.asker)
    assert held == ["r is done and its reservation is open"]
    assert held[0] in (await checker.check(done.redis, done.graph, done.asker, held)).joules


async def test_a_quorum_that_ended_as_it_should_is_not_complained_of(quorum: Done) -> None:
    found = await quorum.found()
    assert (found.wrong, found.exact, found.innocent) == ([], 2, [])
    await quorum.redis.xadd(quorum.key("lineage"), {"event": "what the tally says of the late vote"})
    await quorum.end("lineage", "recorder", Completion())
    assert (await quorum.found()).wrong == []


async def test_each_kind_of_wrong_is_found_of_a_quorum(quorum: Done) -> None:
    redis, told = quorum.redis, "nvp.prediction.certified.v1"
    for _ in range(2):  # one is the late vote's
        await redis.xadd(quorum.key("lineage"), {"event": "again"})
    assert "3 votes, 1 of them late" in str((await quorum.found()).doubled)
    await redis.xadd(quorum.key("votes"), {"event": "again"})
    assert "4 votes were ever cast, and 3 are on record" in (await quorum.found()).doubled
    await quorum.graph.rows("MATCH (v:Vote {voter: 'voter-1'}) DETACH DELETE v")
    assert "q was certified by ['voter-1'], whose votes are not on record" in (await quorum.found()).lost
    reservation = f"nvp:{{ledger}}:reservation:{quorum.account}:q"
    await redis.hset(reservation, "used:voter-0", 0)
    assert "and {'voter-0': 0" in str((await quorum.found()).joules)
    await redis.delete(reservation)
    assert "q was done without a reservation" in (await quorum.found()).joules
    event = json.loads(await redis.hget(quorum.key("reply:q"), told))
    event["data"] |= {"agreed": ["voter-0"], "dissent": ["voter-2"]}
    await redis.hset(quorum.key("reply:q"), told, json.dumps(event))
    assert "q was certified by ['voter-0'] over ['voter-2']" in (await quorum.found()).lost
    await redis.hset(quorum.key("reply:q"), "nvp.prediction.completed.v1", json.dumps(event))
    await redis.hdel(quorum.key("reply:q"), told)
    assert "q was asked on ensemble and answered as nvp.prediction.completed.v1" in (await quorum.found()).lost
    await redis.hset(quorum.key("reply:q"), "nvp.prediction.abstained.v1", json.dumps(event))
    assert "over the votes of ['voter-0', 'voter-2']" in str((await quorum.found()).lost)
    quorum.asker.junk["ensemble"] = 1
    await redis.xadd(names.dead(quorum.key("ensemble")), {"reason": "only one group says so"})
    assert "1 pieces of junk on ensemble and 1 dead letters" in (await quorum.found()).lost


def test_the_schedule_is_the_seed_s() -> None:
    one, other = (random.Random(seed) for seed in (3, 4))
    again = random.Random(3)
    planned = [(schedule.asked(rng, 200), schedule.faults(rng, 100.0)) for rng in (one, other, again)]
    assert planned[0] == planned[2] != planned[1]
    assert {fault.kind for fault in planned[0][1] + planned[1][1]} == set(schedule.FAULTS)
