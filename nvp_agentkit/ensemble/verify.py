"""Check a certificate, trusting the root key alone. Offline; no clock; nothing is believed before its signature."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from pydantic import ValidationError

from nvp_agentkit.ensemble.agreement import Answer, Difference
from nvp_agentkit.ensemble.ballots import Ballots, admit, tabulate
from nvp_agentkit.ensemble.canonical import carried_array, is_array
from nvp_agentkit.ensemble.certificate import STATEMENT_TYPE, Measured, Predicate, parse_statement
from nvp_agentkit.ensemble.decision import SUMMARY_TOLERANCE, decide
from nvp_agentkit.ensemble.dsse import decode
from nvp_agentkit.ensemble.keys import KeyRing, RootOfTrust
from nvp_agentkit.ensemble.record import AgreementRule
from nvp_agentkit.ensemble.votes import Vote
from nvp_agentkit.errors import InvalidInput, StoreUnavailable, UnknownName, VerificationFailed
from nvp_agentkit.messages import ArrayRef
from nvp_agentkit.messages.values import digest_of

Fetch = Callable[[ArrayRef], np.ndarray]
ROUNDING = 1e-6


@dataclass(frozen=True)
class Verdict:
    """What a certificate proves. There is none of one that proves nothing: `verify` raises.

    Signatures, keys, rule and the decision's consistency always hold. ``recomputed`` says whether the
    agreement and the answer were computed again from the votes' arrays as well; ``unread`` names voters
    outside the agreed whose arrays are gone, so that they were not compared again. ``account``, and why
    somebody dissents or is missing, is the tally's word.
    """

    certificate: str
    request_id: str
    request_digest: str
    domain: str
    account: str
    rule: AgreementRule
    agreed: tuple[str, ...]
    dissent: dict[str, str]
    missing: dict[str, str]
    models: dict[str, str]
    mean: ArrayRef
    log_var: ArrayRef
    recomputed: bool
    unread: tuple[str, ...] = ()

    @property
    def text(self) -> str:
        """One sentence a person can read."""
        members = len(self.agreed) + len(self.dissent) + len(self.missing)
        head = f"{len(self.agreed)} of {members} agree ({', '.join(self.agreed)}); signatures, keys and rule hold; "
        if not self.recomputed:
            return head + "agreement not recomputed: the votes' arrays are not at hand"
        tail = f" (not compared again: {', '.join(self.unread)})" if self.unread else ""
        return head + "agreement and answer recomputed from the votes' arrays" + tail


def verify(
    certificate: bytes,
    root: RootOfTrust,
    fetch: Fetch | None = None,
    *,
    request_id: str | None = None,
    request_digest: str | None = None,
) -> Verdict:
    """What ``certificate`` proves under ``root``.

    Args:
        certificate: the bytes as they came.
        root: the deployment's public key.
        fetch: gives an array of the votes; may raise `StoreUnavailable`, `UnknownName` or
            `FileNotFoundError` for one that is no longer kept. Inline arrays need none.
        request_id: the request that was made; a certificate of another one fails.
        request_digest: digest of the field that was asked about; likewise.

    Raises:
        VerificationFailed: naming what does not hold.
    """
    envelope = decode(certificate)
    claim = parse_statement(envelope.body).predicate
    keys = KeyRing.of(root, claim.keys)
    keys.open(envelope, STATEMENT_TYPE, "tally")
    pairs = (("request", request_id, claim.request_id), ("request field", request_digest, claim.request_digest))
    for what, asked, certified in pairs:
        if asked not in (None, certified):
            raise VerificationFailed(f"certificate of another {what}: {certified}, asked was {asked}")
    ballots = _ballots(claim, keys)
    rule = _require_consistent(claim, ballots)
    unread = _recompute(claim, ballots, fetch)
    return Verdict(
        certificate=digest_of(certificate),
        request_id=claim.request_id,
        request_digest=claim.request_digest,
        domain=claim.ensemble.domain,
        account=claim.account,
        rule=rule,
        agreed=claim.outcome.agreed,
        dissent=claim.outcome.dissent,
        missing=claim.outcome.missing,
        models={member.voter: member.model_id for member in claim.ensemble.members},
        mean=claim.mean,
        log_var=claim.log_var,
        recomputed=unread is not None,
        unread=unread or (),
    )


def references(certificate: bytes) -> tuple[ArrayRef, ...]:
    """The arrays `verify` would fetch, for a caller that fetches ahead. Nothing of them is verified yet.

    Raises:
        VerificationFailed: it is no certificate.
    """
    mask = parse_statement(decode(certificate).body).predicate.ensemble.mask
    refs = [ref for vote in votes_in(certificate) for ref in (vote.mean, vote.log_var)]
    return tuple(ref for ref in (*([mask] if mask else []), *refs) if ref.inline is None)


def votes_in(certificate: bytes) -> tuple[Vote, ...]:
    """The votes it carries. Nothing of them is verified yet.

    Raises:
        VerificationFailed: it is no certificate.
    """
    claim = parse_statement(decode(certificate).body).predicate
    try:
        return tuple(Vote.model_validate_json(envelope.body) for envelope in claim.votes)
    except ValidationError as error:
        raise VerificationFailed("the certificate holds something that is no vote") from error


def _ballots(claim: Predicate, keys: KeyRing) -> Ballots:
    request = (claim.request_id, claim.request_digest)
    signed = [
        (vote, admit(vote, keys=keys, record=claim.ensemble, request_id=request[0], request_digest=request[1]))
        for vote in claim.votes
    ]
    return tabulate(claim.ensemble, signed, {}, {})


def _require_consistent(claim: Predicate, ballots: Ballots) -> AgreementRule:
    """The rule, once the decision follows from it as far as signed words, without arrays, can tell."""
    record, outcome = claim.ensemble, claim.outcome
    rule = record.rule
    named = sorted((*outcome.agreed, *outcome.dissent, *outcome.missing))
    agreed = [ballots.votes[voter] for voter in outcome.agreed if voter in ballots.votes]
    measured = {entry.voters: _difference(entry) for entry in outcome.measured}
    if rule is None:
        raise VerificationFailed(f"an ensemble of {len(record.members)} has no agreement rule to hold")
    if outcome.quorum != record.quorum or len(outcome.agreed) < record.quorum:
        raise VerificationFailed(f"{len(outcome.agreed)} agree; of {len(record.members)} members {record.quorum} must")
    if named != sorted(record.voters) or set(outcome.missing) & set(ballots.votes):
        raise VerificationFailed("agreed, dissent and missing do not name each member once")
    if len(agreed) != len(outcome.agreed):
        raise VerificationFailed("a voter is said to agree without one valid vote of its own")
    for vote in agreed:
        if vote.mean.shape != claim.mean.shape or claim.mean.units != rule.units:
            raise VerificationFailed(f"the answer is {claim.mean.shape} in {claim.mean.units}, {vote.voter}'s is not")
    for one, other in itertools.combinations(sorted(agreed, key=lambda vote: vote.voter), 2):
        pair = (one.voter, other.voter)
        if pair not in measured or not measured[pair].within(rule):
            raise VerificationFailed(f"{' and '.join(pair)} are said to agree, but not measured within the rule")
        _require_same_energy(one, other, rule)
    return rule


def _difference(entry: Measured) -> Difference:
    return Difference(entry.distance, entry.peak, entry.variance, entry.budget)


def _require_same_energy(one: Vote, other: Vote, rule: AgreementRule) -> None:
    """Two agreeing voters' own signed totals must agree, up to the rounding a summary may have."""
    sums, cells = (one.summary.sum, other.summary.sum), one.summary.cells
    apart = abs(sums[0] - sums[1]) / cells / rule.spread
    largest = max(abs(value) for vote in (one, other) for value in (vote.summary.min, vote.summary.max))
    if apart > rule.budget_limit + 2 * SUMMARY_TOLERANCE * largest / rule.spread:
        raise VerificationFailed(f"{one.voter} and {other.voter} are said to agree, but signed other totals: {sums}")


def _recompute(claim: Predicate, ballots: Ballots, fetch: Fetch | None) -> tuple[str, ...] | None:
    """Decide again. None if the agreed voters' arrays are not at hand, else the voters not compared again.

    Raises:
        VerificationFailed: the arrays say something else than the certificate.
    """
    mask = _read(claim.ensemble.mask, fetch) if claim.ensemble.mask else None
    answers = _answers(ballots, claim.outcome.agreed, fetch)
    if not set(claim.outcome.agreed) <= set(answers) or (claim.ensemble.mask and mask is None):
        return None
    again = decide(claim.ensemble, ballots, answers, mask=None if mask is None else mask > 0, closed=True)
    if again.outcome != "accepted" or again.agreed != claim.outcome.agreed or again.answer is None:
        raise VerificationFailed(f"recomputed, the decision is another one: {again.reason}")
    for name, ref, array in (
        ("mean", claim.mean, again.answer.mean), ("log_var", claim.log_var, again.answer.log_var)
    ):
        if not is_array(array, ref):
            raise VerificationFailed(f"recomputed, the answer's {name} is another array")
    for entry in claim.outcome.measured:
        found = again.pairs.get(entry.voters)
        said = _difference(entry)
        if found is not None and not np.allclose(said, found, rtol=ROUNDING, atol=ROUNDING):
            raise VerificationFailed(f"recomputed, {' and '.join(entry.voters)} differ by {found}, not by {said}")
    return tuple(sorted(set(ballots.votes) - set(answers)))


def _answers(ballots: Ballots, agreed: tuple[str, ...], fetch: Fetch | None) -> dict[str, Answer]:
    """The voters' arrays that are at hand. A dissenter that signed unreadable ones spoils nothing but its vote."""
    answers = {}
    for voter, vote in ballots.votes.items():
        try:
            mean, log_var = _read(vote.mean, fetch), _read(vote.log_var, fetch)
        except VerificationFailed:
            if voter in agreed:
                raise
            continue
        if mean is not None and log_var is not None:
            answers[voter] = Answer(mean, log_var)
    return answers


def _read(ref: ArrayRef, fetch: Fetch | None) -> np.ndarray | None:
    """The array, or None if it is not at hand.

    Raises:
        VerificationFailed: what lies there is not what was signed.
    """
    try:
        if ref.inline is not None:
            array = carried_array(ref)
        elif fetch is not None:
            array = fetch(ref)
        else:
            return None
    except (StoreUnavailable, UnknownName, FileNotFoundError):
        return None
    except InvalidInput as error:
        raise VerificationFailed(f"an array is not the one that was signed: {error}") from error
    if not is_array(array, ref):
        raise VerificationFailed(f"an array is not the one that was signed: {ref.digest}")
    return array
