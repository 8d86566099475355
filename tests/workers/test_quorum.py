"""A quorum: every member signs its own answer, and what enough of them agree on is certified once."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from nvp_agentkit.artifacts import inline_array
from nvp_agentkit.ensemble import RootOfTrust, load_signer, verify
from nvp_agentkit.errors import DeadlineExceeded, InvalidField, InvalidInput, NvpError, UnknownModel
from nvp_agentkit.messages import (
    LineageRecorded,
    PredictionAbstained,
    PredictionCertified,
    PredictionRefused,
)
from nvp_agentkit.streams import Completion, names
from nvp_agentkit.workers import shadow, tally
from nvp_agentkit.workers.cases import Cases
from nvp_agentkit.workers.serving import registry
from nvp_agentkit.workers.serving.batching import Prediction
from nvp_agentkit.workers.serving.forecasting import ModelHost

VOTERS = ("voter-0", "voter-1", "voter-2")


async def test_each_vote_is_signed_by_its_voter_paid_from_its_share_and_on_record(court, seated, request_of) -> None:
    record = await seated()
    asked = court.asked(request_of(), budget_mj=6000)
    voted = await court.votes(asked)
    for voter, completion in zip(VOTERS, voted, strict=True):
        vote = court.signed(completion)  # raises unless the signature holds
        assert (vote.voter, vote.model_id) == (voter, record.model_of(voter))
        assert (vote.request_id, vote.request_digest) == (asked.request_id, asked.payload.field.digest)
        assert vote.record == record.digest
        (fact,) = completion.facts
        assert fact.deadline is None
        assert isinstance(fact.payload, LineageRecorded)
        assert {"Vote", "EnergyReading"} <= {node.label for node in fact.payload.nodes}
    grant = await court.system.ledger.grant(court.bench.account, asked.request_id)
    assert set(grant.parts_settled) == set(VOTERS)
    balance = await court.bench.balance()
    assert (balance.spent_mj, balance.reserved_mj) == (grant.paid_mj, 0)
    assert 0 < grant.paid_mj < 6000


async def test_two_votes_that_agree_are_certified_once_and_the_third_is_only_on_record(
    court, seated, request_of
) -> None:
    await seated()
    asked = court.asked(request_of())
    first, second, third = await court.votes(asked)
    assert await court.count(court.cast(first)) == Completion()  # one is no quorum
    certified = court.bench.said(await court.count(court.cast(second)))
    assert isinstance(certified, PredictionCertified)
    assert certified.agreed == ("voter-0", "voter-1")
    late = await court.count(court.cast(third))
    assert await court.replies(asked) == [certified]
    assert third.facts  # by its own word
    assert verdicts(late) == {"voter-2": False}  # and by the tally's


def verdicts(said: Completion) -> dict[str, bool]:
    """Who dissents and who does not, by the facts that the tally gives."""
    votes = [node for fact in said.facts for node in fact.payload.nodes if node.label == "Vote"]
    return {vote.properties["voter"]: vote.properties["dissent"] for vote in votes}


async def test_a_wrong_vote_that_comes_too_late_is_on_record_as_dissent(court, seated, request_of) -> None:
    await seated("voter-2")
    asked = court.asked(request_of())
    first, second, third = map(court.cast, await court.votes(asked))
    assert verdicts(await court.count(first, second)) == {"voter-0": False, "voter-1": False}
    for _ in range(2):  # delivered twice, said twice alike
        late = await court.count(third)
        assert (late.replies, verdicts(late)) == ((), {"voter-2": True})
    assert await court.count(first) == Completion()


async def test_a_certificate_proves_itself_to_whoever_has_the_root_key(court, seated, request_of) -> None:
    await seated()
    asked = court.asked(request_of())
    said = court.bench.said(await court.count(*map(court.cast, await court.votes(asked, VOTERS[:2]))))
    raw = await court.system.artifacts.get(said.certificate)
    root = RootOfTrust.read(court.system.settings.keys_dir / "root.pub")
    verdict = verify(raw, root, fetch=court.system.artifacts.fetch_array)
    assert (verdict.request_id, verdict.account, verdict.recomputed) == (asked.request_id, court.bench.account, True)
    assert verdict.mean.digest == said.mean.digest


async def test_the_same_votes_twice_or_in_another_order_change_nothing(court, seated, request_of) -> None:
    await seated()
    asked = court.asked(request_of())
    casts = list(map(court.cast, await court.votes(asked)))
    await court.count(casts[1], casts[1], casts[0], casts[0], casts[1], casts[2], casts[2])
    (certified,) = await court.replies(asked)
    assert certified.agreed == ("voter-0", "voter-1")


async def test_one_wrong_member_is_outvoted_and_named(court, seated, request_of) -> None:
    await seated("voter-1")
    asked = court.asked(request_of())
    said = court.bench.said(await court.count(*map(court.cast, await court.votes(asked))))
    assert isinstance(said, PredictionCertified)
    assert (said.agreed, said.dissent) == (("voter-0", "voter-2"), ("voter-1",))


async def test_members_that_all_differ_abstain_at_once_and_say_by_how_much(court, seated, request_of) -> None:
    await seated("voter-1", "voter-2")
    asked = court.asked(request_of())
    said = court.bench.said(await court.count(*map(court.cast, await court.votes(asked))))
    assert isinstance(said, PredictionAbstained)
    assert set(said.votes) == set(VOTERS)
    assert "spreads from" in said.reason
    assert said.energy is not None


async def test_a_silent_voter_makes_the_others_abstain_at_the_deadline_and_not_before(
    court, seated, request_of
) -> None:
    await seated("voter-1")
    await court.votes(court.asked(request_of()))  # compiled, so that the deadline below is met
    asked = court.asked(request_of(), within_s=3.0)
    async with court.deadlines_kept():
        casts = list(map(court.cast, await court.votes(asked, ("voter-0", "voter-1"))))
        assert await court.count(*casts) == Completion()
        assert await court.replies(asked) == []
        said = await court.told(asked)
    assert asked.remaining_s < 0
    assert isinstance(said, PredictionAbstained)
    assert said.votes["voter-2"] == "no vote"


async def test_a_request_that_no_voter_answers_ends_in_an_abstention_and_in_nothing_after_that(
    court, seated, request_of
) -> None:
    await seated()
    asked = court.asked(request_of(), within_s=0.5)
    assert await court.tally.open(asked) == Completion()
    async with court.deadlines_kept():
        said = await court.told(asked)
    assert isinstance(said, PredictionAbstained)
    assert "no voter answered by the deadline" in said.reason
    assert await waits(court) == []
    voted = await court.vote(court.asked(request_of(), event=asked.event), "voter-0")
    assert await court.count(court.cast(voted)) == Completion()  # it comes too late
    assert await court.replies(asked) == [said]


async def test_an_account_whose_deadlines_cannot_be_read_holds_up_no_other(court, seated, request_of, redis) -> None:
    await seated()
    broken = "0-first-of-all"
    await redis.hset(names.ACCOUNTS, broken, "{}")
    await redis.set(names.key(broken, "deadlines"), "no sorted set", ex=60)
    try:
        asked = court.asked(request_of(), within_s=0.2)
        await court.tally.open(asked)
        async with court.deadlines_kept():
            assert isinstance(await court.told(asked), PredictionAbstained)
    finally:
        await redis.hdel(names.ACCOUNTS, broken)
        await redis.delete(names.key(broken, "deadlines"))


async def test_a_look_at_all_deadlines_is_one_round_trip(redis, account, round_trips) -> None:
    await redis.zadd(names.key(account, "deadlines"), {"late": 0, "in time": 2**52})
    accounts = [*(f"{account}-{number}" for number in range(100)), account]
    round_trips.clear()
    assert await Cases(redis).due(accounts) == [(account, "late")]
    assert round_trips["sent"] == 1


async def test_a_case_that_cannot_be_read_holds_up_no_other(court, seated, request_of, redis) -> None:
    await seated()
    account = court.bench.account
    await redis.set(names.key(account, "case:first-of-all"), "no hash", ex=60)
    await redis.zadd(names.key(account, "deadlines"), {"first-of-all": 0})
    asked = court.asked(request_of(), within_s=0.2)
    await court.tally.open(asked)
    async with court.deadlines_kept():
        assert isinstance(await court.told(asked), PredictionAbstained)


async def test_votes_that_break_their_judge_end_in_an_abstention_and_stop_no_deadline(
    court, seated, bench, request_of
) -> None:
    record = await seated("voter-1")
    broken = record.model_copy(update={"rule": record.rule.model_copy(update={"spread": 1e-200})})  # its square is none
    await bench.complete(Completion(fields=registry.registration(broken)))
    await court.votes(court.asked(request_of()), VOTERS[:2])  # compiled, so that the deadlines below are met
    asked, other = court.asked(request_of(), within_s=4.0), court.asked(request_of(), within_s=4.5)
    for vote in await court.votes(asked, VOTERS[:2]):
        await court.tally._cases.add(bench.account, asked.request_id, court.cast(vote))
    await court.tally.open(other)
    async with court.deadlines_kept():
        said, then = await court.told(asked), await court.told(other)
    assert isinstance(said, PredictionAbstained)
    assert "overflow" in said.reason
    assert said.energy is not None
    assert isinstance(then, PredictionAbstained)


async def waits(court) -> list[bytes]:
    return await court.system.redis.zrange(names.key(court.bench.account, "deadlines"), 0, -1)


async def test_a_decision_outlives_a_deadline_that_is_far_away_and_nothing_waits_for_that(
    court, seated, request_of
) -> None:
    await seated()
    asked = court.asked(request_of(), within_s=7200)
    await court.tally.open(asked)
    assert await waits(court) == [asked.request_id.encode()]
    await court.count(*map(court.cast, await court.votes(asked, VOTERS[:2])))
    assert await waits(court) == []
    decided = names.key(court.bench.account, names.decided(asked.request_id))
    assert await court.system.redis.ttl(decided) > 7200


async def test_what_voters_refuse_is_not_waited_for(court, request_of) -> None:
    asked = court.asked(request_of(domain="alchemy"))
    await court.tally.open(asked)
    with pytest.raises(UnknownModel) as caught:
        await court.vote(asked, "voter-0")
    await court.bench.complete(shadow.refuse(court.system, asked, caught.value))
    assert await waits(court) == []


@pytest.mark.parametrize(("error", "answers"), [(DeadlineExceeded("late"), 1), (NvpError("the tally's own"), 0)])
def test_the_tally_refuses_for_all_what_is_late_and_nothing_else(court, request_of, error, answers) -> None:
    assert len(tally.refuse(court.system, court.asked(request_of()), error).replies) == answers


async def test_a_quorum_does_not_wait_for_a_silent_voter(court, seated, request_of) -> None:
    await seated()
    asked = court.asked(request_of())
    said = court.bench.said(await court.count(*map(court.cast, await court.votes(asked, ("voter-0", "voter-2")))))
    assert isinstance(said, PredictionCertified)
    assert said.missing == ("voter-1",)


async def test_a_member_whose_model_is_broken_cannot_veto(court, seated, request_of) -> None:
    record = await seated()
    weights = record.members[1].weights
    (court.system.artifacts._backend.path(weights.uri.removeprefix("artifact:"))).unlink()
    asked = court.asked(request_of())
    voted = await court.votes(asked)
    failed = court.cast(voted[1]).payload
    assert failed.envelope is None
    assert "voter-1 cannot load" in failed.failed
    said = court.bench.said(await court.count(*(court.cast(vote) for vote in (voted[1], voted[0], voted[2]))))
    assert said.agreed == ("voter-0", "voter-2")
    assert (await court.bench.balance()).reserved_mj == 0


async def test_a_voter_that_fails_says_what_was_paid_for_it_all_the_same(court, bench, weights, request_of) -> None:
    await bench.serve({voter: weights(k, offset=3.3e38) for k, voter in enumerate(VOTERS)})
    field = inline_array(np.full((2, 16, 48), -3.3e38, np.float32), "J")  # a shape that whoever asks pays to compile
    cast = court.cast(await court.vote(court.asked(request_of(field=field), budget_mj=90_000), "voter-0")).payload
    assert "not finite" in cast.failed
    assert cast.energy.mj == (await bench.balance()).spent_mj > 0


class Unsound(ModelHost):
    """Whose forecasts have a hole that nobody noticed."""

    async def predict(self, *asked: Any, **how: Any) -> Prediction:
        said = await super().predict(*asked, **how)
        return replace(said, mean=np.where(np.eye(32, dtype=bool), np.float32(np.nan), said.mean))


async def test_an_answer_of_which_no_vote_can_be_made_is_a_failed_vote_that_says_what_was_paid_for_it(
    court, seated, bench, request_of
) -> None:
    await seated()
    court.hosts["voter-1"] = Unsound("voter-1", bench.system)
    asked = court.asked(request_of())
    failed = court.cast(await court.vote(asked, "voter-1"))
    assert "voter-1 cannot answer with model:sha256" in failed.payload.failed
    assert "32 of 1024 valid cells not finite" in failed.payload.failed
    assert failed.payload.energy.mj == (await bench.balance()).spent_mj > 0
    others = [court.cast(one) for one in await court.votes(asked, ("voter-0", "voter-2"))]
    assert bench.said(await court.count(failed, *others)).agreed == ("voter-0", "voter-2")


async def test_a_model_that_does_not_take_the_request_is_one_failed_vote_and_refuses_it_for_nobody(
    court, bench, weights, request_of
) -> None:
    seen = np.ones((32, 32), bool)
    seen[:4] = False
    await bench.serve({voter: weights(k, masked=voter != "voter-1") for k, voter in enumerate(VOTERS)}, mask=seen)
    asked = court.asked(request_of())
    voted = [court.cast(one) for one in await court.votes(asked, ("voter-1", "voter-0", "voter-2"))]
    assert "this network learnt from fields that have all" in voted[0].payload.failed
    assert bench.said(await court.count(*voted)).agreed == ("voter-0", "voter-2")


@pytest.mark.parametrize(
    ("otherwise", "error", "code"),
    [
        ({"domain": "alchemy"}, UnknownModel, "unknown_model"),
        ({"field": "NaN"}, InvalidField, "invalid_field"),
        ({"model": "model:sha256:one"}, InvalidInput, "invalid_input"),
    ],
)
async def test_a_bad_request_is_refused_once_for_all_voters(
    court, seated, request_of, raw_array, field: np.ndarray, otherwise, error, code
) -> None:
    await seated()
    if "field" in otherwise:
        otherwise = {"field": raw_array(field * np.nan)}
    asked = court.asked(request_of(**otherwise))
    for voter in VOTERS:
        with pytest.raises(error) as caught:
            await court.vote(asked, voter)
        await court.bench.complete(shadow.refuse(court.system, asked, caught.value))
    (refused,) = await court.replies(asked)
    assert isinstance(refused, PredictionRefused)
    assert refused.code == code
    assert len(await court.system.redis.xrange(names.key(court.bench.account, "lineage"))) == 1
    assert (await court.bench.balance()).spent_mj == 0


async def test_an_ensemble_of_two_has_nothing_to_outvote_with_and_says_so(court, bench, weights, request_of) -> None:
    await bench.serve({"voter-0": weights(0), "voter-1": weights(1)})
    with pytest.raises(UnknownModel, match="no rule to vote by; train at least 3 members"):
        await court.vote(court.asked(request_of()), "voter-0")


async def test_a_voters_own_trouble_is_its_silence_and_no_refusal(court, request_of) -> None:
    asked = court.asked(request_of())
    assert shadow.refuse(court.system, asked, NvpError("mine alone")) == Completion()
    assert names.decided(asked.request_id) == f"decided:{asked.request_id}"


async def test_a_voter_the_ensemble_has_no_place_for_keeps_silent(court, seated, bench, weights, request_of) -> None:
    await bench.serve({"voter-0": weights(0), "voter-1": weights(1), "voter-3": weights(3)})
    assert await court.vote(court.asked(request_of()), "voter-2") == Completion()


async def test_what_nobody_foresaw_in_a_voter_is_a_vote_that_failed_and_says_why(
    court, bench, weights, request_of
) -> None:
    await bench.serve({f"voter-{k}": weights(k) for k in range(3)})
    signer = replace(load_signer(bench.system.settings.keys_dir, "voter-0"), key=None)
    voted = await shadow.vote(court.asked(request_of()), court.hosts["voter-0"], signer, bench.system)
    cast = court.cast(voted).payload
    assert (cast.voter, cast.envelope) == ("voter-0", None)
    assert "AttributeError" in cast.failed
    assert "this is a defect" in cast.failed
    assert cast.energy.mj == (await bench.balance()).spent_mj > 0


async def test_cells_nobody_ever_observed_count_neither_for_nor_against(court, bench, weights, request_of) -> None:
    land = np.zeros((32, 32), bool)
    land[:4] = True
    await bench.serve({f"voter-{k}": weights(k, masked=True) for k in range(3)}, mask=~land)
    values = np.ones((2, 32, 32), np.float32)
    asked = court.asked(request_of(field=inline_array(values, "J")))
    voted = await court.votes(asked, VOTERS[:2])
    assert court.signed(voted[0]).summary.cells == int((~land).sum())
    assert isinstance(court.bench.said(await court.count(*map(court.cast, voted))), PredictionCertified)
    json.dumps(voted[0].facts[0].payload.model_dump(mode="json"))
