"""From what came in on the votes stream to at most one vote a voter. Anything may have come in."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from nvp_agentkit.ensemble.dsse import Envelope, decode
from nvp_agentkit.ensemble.keys import KeyRing
from nvp_agentkit.ensemble.record import EnsembleRecord
from nvp_agentkit.ensemble.votes import Vote, open_vote
from nvp_agentkit.errors import VerificationFailed
from nvp_agentkit.messages import VoteCast

NOTHING_CAME = "no vote"


@dataclass(frozen=True)
class Ballots:
    """What each member did. Exactly one of the first three has an entry for each of them.

    ``votes``: its one valid vote. ``faults``: why what it sent does not count. ``missing``: why there is
    nothing of it. ``awaited``: members whose vote may still come, whatever was said in their name: only a
    signature settles anything. ``envelopes``: all that members validly signed.
    """

    votes: dict[str, Vote] = field(default_factory=dict)
    faults: dict[str, str] = field(default_factory=dict)
    missing: dict[str, str] = field(default_factory=dict)
    awaited: tuple[str, ...] = ()
    envelopes: tuple[Envelope, ...] = ()


def collect(
    casts: Iterable[VoteCast], *, keys: KeyRing, record: EnsembleRecord, request_id: str, request_digest: str
) -> Ballots:
    """Sort what was cast on a request. Order and repetition do not matter; never raises on what was cast.

    Junk in a voter's name never displaces its valid vote; two different valid votes of one voter displace
    each other (equivocation).
    """
    signed: list[tuple[Envelope, Vote]] = []
    faults: dict[str, set[str]] = {}
    failed: dict[str, set[str]] = {}
    for cast in casts:
        if cast.envelope is None:
            failed.setdefault(cast.voter, set()).add(cast.failed or "failed without a reason")
            continue
        try:
            envelope = decode(cast.envelope)
            vote = admit(envelope, keys=keys, record=record, request_id=request_id, request_digest=request_digest)
        except VerificationFailed as error:
            faults.setdefault(cast.voter, set()).add(str(error))
        else:
            signed.append((envelope, vote))
    return tabulate(record, signed, faults, failed)


def question(casts: Iterable[VoteCast], *, keys: KeyRing, request_id: str) -> tuple[str, str] | None:
    """The (request digest, record digest) that most voters signed for this request; of equals the smaller.

    What stands beside an envelope on the stream is nobody's word: a tally that went by the first cast would
    let one broken voter choose the ensemble, and so turn all others' votes away. None before any valid vote.
    """
    voters: dict[tuple[str, str], set[str]] = {}
    for cast in casts:
        try:
            vote = open_vote(cast.envelope or "", keys)
        except VerificationFailed:
            continue
        if vote.request_id == request_id:
            voters.setdefault((vote.request_digest, vote.record), set()).add(vote.voter)
    return min(voters, key=lambda asked: (-len(voters[asked]), asked), default=None)


def admit(
    envelope: Envelope, *, keys: KeyRing, record: EnsembleRecord, request_id: str, request_digest: str
) -> Vote:
    """The vote in ``envelope`` if it counts: a member's certified key signed it for this request, this
    record and that member's model.

    Raises:
        VerificationFailed: naming what it is instead.
    """
    vote = open_vote(envelope, keys)
    model_id = record.model_of(vote.voter)
    expected = {
        "ensemble": (vote.voter, vote.voter if model_id else f"one of {', '.join(record.voters)}"),
        "request": (vote.request_id, request_id),
        "request field": (vote.request_digest, request_digest),
        "ensemble record": (vote.record, record.digest),
        "model": (vote.model_id, model_id),
        "unit": (vote.mean.units, record.rule.units if record.rule else vote.mean.units),
    }
    for what, (said, wanted) in expected.items():
        if said != wanted:
            raise VerificationFailed(f"vote of another {what}: {said}, expected {wanted}")
    return vote


def tabulate(
    record: EnsembleRecord,
    signed: Iterable[tuple[Envelope, Vote]],
    faults: Mapping[str, set[str]],
    failed: Mapping[str, set[str]],
) -> Ballots:
    """At most one vote a member, from admitted votes and what else was said in the members' names."""
    valid: dict[str, dict[bytes, tuple[Envelope, Vote]]] = {}
    for envelope, vote in signed:
        valid.setdefault(vote.voter, {})[envelope.encode()] = (envelope, vote)
    ballots = Ballots(
        awaited=tuple(voter for voter in record.voters if voter not in valid),
        # Two votes prove an equivocation; a hundred would only swell the certificate.
        envelopes=tuple(valid[voter][raw][0] for voter in sorted(valid) for raw in sorted(valid[voter])[:2]),
    )
    for voter in record.voters:
        votes = [vote for _, vote in valid.get(voter, {}).values()]
        if len(votes) == 1:
            ballots.votes[voter] = votes[0]
        elif votes:
            ballots.faults[voter] = "equivocated: different signed votes on one request"
        elif voter in faults:
            ballots.faults[voter] = _few(faults[voter])
        else:
            ballots.missing[voter] = _few(failed.get(voter, {NOTHING_CAME}))
    return ballots


def _few(reasons: set[str]) -> str:
    """A bounded text, however much was sent."""
    return "; ".join(reason[:200] for reason in sorted(reasons)[:3])
