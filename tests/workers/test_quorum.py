"""A quorum: every member signs its own answer, and what enough of them agree on is certified once."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Sequence
from contextlib import asynccontextmanager, suppress

import numpy as np
import pytest

from nvp_agentkit.artifacts import inline_array
from nvp_agentkit.ensemble import KeyRing, RootOfTrust, Vote, load_signer, open_vote, sign_vote, verify
from nvp_agentkit.errors import InvalidField, InvalidInput, NvpError, UnknownModel
from nvp_agentkit.messages import (
    Event,
    LineageRecorded,
    PredictionAbstained,
    PredictionCertified,
    PredictionRefused,
    VoteCast,
    decode,
    new_event,
)
from nvp_agentkit.streams import Completion, Delivery, names
from nvp_agentkit.workers import refusals, shadow
from nvp_agentkit.workers.forecasting import ModelHost
from nvp_agentkit.workers.tally import Tally

VOTERS = ("voter-0", "voter-1", "voter-2")


class Court:
    """Three voters and a tally around one account, with the streams between them left out."""

    def __init__(self, bench) -> None:
        self.bench = bench
        self.system = bench.system
        self.hosts = {voter: ModelHost(voter, bench.system) for voter in VOTERS}
        self.tally = Tally(bench.system)
        self.keys = KeyRing.read(bench.system.settings.keys_dir)

    def asked(self, request, **options) -> Delivery:
        return self.bench.delivery(request, suffix="ensemble", **options)

    async def votes(self, asked: Delivery, voters: Sequence[str] = VOTERS) -> list[Completion]:
        return [await self.vote(asked, voter) for voter in voters]

    async def vote(self, asked: Delivery, voter: str) -> Completion:
        signer = load_signer(self.system.settings.keys_dir, voter)
        return await shadow.vote(asked, self.hosts[voter], signer, self.system)

    def cast(self, voted: Completion) -> Event:
        ((stream, event),) = voted.forwards
        assert stream == "votes"
        return event

    def signed(self, voted: Completion) -> Vote:
        cast = self.cast(voted).payload
        assert isinstance(cast, VoteCast)
        return open_vote(cast.envelope or "", self.keys)

    async def count(self, *casts: Event) -> Completion:
        """Hand the tally these votes, and let what it says of each happen. The last thing it said."""
        said = Completion()
        for event in casts:
            said = await self.tally.count(self.bench.delivery(event.payload, suffix="votes", event=event))
            await self.bench.complete(said)
        return said

    async def replies(self, asked: Delivery) -> list[object]:
        """All that the asker was told, in order."""
        entries = await self.system.redis.xrange(names.replies(self.bench.account))
        return [decode(f[b"event"]).payload for _, f in entries if f[b"replyto"].decode() == asked.request_id]

    @asynccontextmanager
    async def deadlines_kept(self):
        """The tally's sweep, running."""
        stop = asyncio.Event()
        sweeping = asyncio.create_task(self.tally.sweep(stop))
        yield
        stop.set()
        await sweeping

    async def told(self, asked: Delivery) -> object:
        """The first answer, once there is one."""
        async with asyncio.timeout(20):
            while not (found := await self.replies(asked)):  # noqa: ASYNC110  it happens in Redis
                await asyncio.sleep(0.02)
        return found[0]


@pytest.fixture
def court(bench) -> Court:
    return Court(bench)


@pytest.fixture
def seated(bench, weights) -> Callable[..., object]:
    """Put an ensemble of three in service, of whom some are wrong."""

    async def serve(*wrong: str):
        return await bench.serve({voter: weights(k, wrong=voter in wrong) for k, voter in enumerate(VOTERS)})

    return serve


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
    assert await court.count(court.cast(third)) == Completion()
    assert await court.replies(asked) == [certified]
    assert third.facts  # by its own word


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


def forged(court: Court, vote: Event, **lies: object) -> Event:
    """``vote`` as an attacker would send it: the claims beside the envelope, or the envelope, are not its voter's."""
    return new_event(vote.payload.model_copy(update=lies), source="nvp:worker:mallory", deadline=vote.deadline)


async def test_what_is_said_beside_a_signature_is_nobodys_word(court, seated, request_of) -> None:
    await seated()
    asked = court.asked(request_of())
    casts = list(map(court.cast, await court.votes(asked)))
    junk = [
        forged(court, casts[0], record=f"sha256:{'0' * 64}"),  # of an ensemble that nobody knows
        forged(court, casts[0], request_digest=f"sha256:{'0' * 64}"),
        forged(court, casts[0], envelope="{}"),
        forged(court, casts[0], envelope=None, failed="out of memory"),
        forged(court, casts[0], envelope=_signed_by(court, "voter-2", casts[0])),
        forged(court, casts[0], voter="voter-9"),
    ]
    for event in junk:
        with suppress(UnknownModel):  # the consumer forgets such a vote
            await court.count(event)
    await court.count(casts[1], casts[2])
    (said,) = await court.replies(asked)
    assert isinstance(said, PredictionCertified)


def _signed_by(court: Court, voter: str, cast: Event) -> str:
    """The vote in ``cast``, signed by somebody else."""
    vote = open_vote(cast.payload.envelope, court.keys)
    return sign_vote(vote, load_signer(court.system.settings.keys_dir, voter)).encode().decode()


async def test_a_voter_that_says_two_things_counts_for_none(court, seated, request_of, field: np.ndarray) -> None:
    await seated()
    asked = court.asked(request_of())
    casts = list(map(court.cast, await court.votes(asked)))
    vote = open_vote(casts[0].payload.envelope, court.keys)
    other = vote.model_copy(update={"issued_at_ms": vote.issued_at_ms + 1})
    envelope = sign_vote(other, load_signer(court.system.settings.keys_dir, "voter-0")).encode().decode()
    said = await court.count(casts[0], forged(court, casts[0], envelope=envelope), casts[1], casts[2])
    assert court.bench.said(said).agreed == ("voter-1", "voter-2")


async def test_votes_that_nobody_can_judge_end_in_an_abstention_and_hold_up_no_other_case(
    court, seated, request_of
) -> None:
    await seated()
    await court.votes(court.asked(request_of()))
    lost, sound = (court.asked(request_of(), within_s=2.0) for _ in range(2))
    nobodys = VoteCast(
        request_id=lost.request_id,
        request_digest=f"sha256:{'1' * 64}",
        record=f"sha256:{'2' * 64}",
        voter="voter-0",
        failed="whatever",
    )
    with pytest.raises(UnknownModel):
        await court.count(new_event(nobodys, source="nvp:worker:mallory", deadline=lost.deadline))
    await court.count(court.cast(await court.vote(sound, "voter-0")))
    async with court.deadlines_kept():
        assert isinstance(await court.told(lost), PredictionAbstained)
        assert isinstance(await court.told(sound), PredictionAbstained)


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
    assert refusals.decided(asked.request_id) == f"decided:{asked.request_id}"


async def test_a_voter_the_ensemble_has_no_place_for_keeps_silent(court, seated, bench, weights, request_of) -> None:
    await bench.serve({"voter-0": weights(0), "voter-1": weights(1), "voter-3": weights(3)})
    assert await court.vote(court.asked(request_of()), "voter-2") == Completion()


async def test_cells_nobody_ever_observed_count_neither_for_nor_against(court, bench, weights, request_of) -> None:
    land = np.zeros((32, 32), bool)
    land[:4] = True
    await bench.serve({f"voter-{k}": weights(k) for k in range(3)}, mask=~land)
    values = np.ones((2, 32, 32), np.float32)
    asked = court.asked(request_of(field=inline_array(values, "J")))
    voted = await court.votes(asked, VOTERS[:2])
    assert court.signed(voted[0]).summary.cells == int((~land).sum())
    assert isinstance(court.bench.said(await court.count(*map(court.cast, voted))), PredictionCertified)
    json.dumps(voted[0].facts[0].payload.model_dump(mode="json"))
