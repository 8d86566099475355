"""Votes that lie: what is not signed by whom it names, for what was asked, counts for nothing and harms nobody."""

from __future__ import annotations

from contextlib import suppress

import numpy as np
import pytest

from nvp_agentkit.ensemble import load_signer, open_vote, sign_vote
from nvp_agentkit.errors import UnknownModel
from nvp_agentkit.messages import Event, PredictionAbstained, PredictionCertified, VoteCast, new_event


def forged(court, vote: Event, **lies: object) -> Event:
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


def _signed_by(court, voter: str, cast: Event) -> str:
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
