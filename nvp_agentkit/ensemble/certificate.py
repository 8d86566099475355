"""The proof that comes with a quorum's answer: an in-toto statement in a DSSE envelope.

It carries what a verifier needs and nothing of which it must take our word but the root key: the signed
votes, the root's certificates of their keys, the ensemble with its rule, and the decision.
Source: https://github.com/in-toto/attestation (Statement v1).
"""

from __future__ import annotations

from typing import Literal, Self

from pydantic import ConfigDict, Field, ValidationError, model_validator

from nvp_agentkit.ensemble.ballots import Ballots
from nvp_agentkit.ensemble.canonical import canonical_model
from nvp_agentkit.ensemble.decision import Decision
from nvp_agentkit.ensemble.dsse import Envelope
from nvp_agentkit.ensemble.keys import KeyRing, Signer
from nvp_agentkit.ensemble.record import EnsembleRecord
from nvp_agentkit.errors import InvalidInput, VerificationFailed
from nvp_agentkit.messages import AccountName, ArrayRef, Digest, Payload, Reading

STATEMENT_TYPE = "application/vnd.in-toto+json"
PREDICATE_TYPE: Literal["urn:nvp-agentkit:quorum-certificate:v1"] = "urn:nvp-agentkit:quorum-certificate:v1"


class Measured(Payload):
    """The difference of two answers as the tally measured it."""

    voters: tuple[str, str]
    distance: float = Field(ge=0, allow_inf_nan=False)
    peak: float = Field(ge=0, allow_inf_nan=False)
    variance: float = Field(ge=0, allow_inf_nan=False)
    budget: float = Field(ge=0, allow_inf_nan=False)


class Outcome(Payload):
    """The accepted decision: each member is in one of agreed, dissent, missing."""

    quorum: int
    agreed: tuple[str, ...]
    dissent: dict[str, str]
    missing: dict[str, str]
    measured: tuple[Measured, ...]


class Predicate(Payload):
    """What is claimed of the answer."""

    request_id: str
    request_digest: Digest
    account: AccountName = Field(description="who asked and paid")
    energy: Reading
    ensemble: EnsembleRecord
    votes: tuple[Envelope, ...]
    keys: tuple[Envelope, ...]
    outcome: Outcome
    mean: ArrayRef
    log_var: ArrayRef


class Subject(Payload):
    """What the statement is about, by digest."""

    name: Literal["mean", "log_var"]
    digest: dict[Literal["sha256"], str]


class Statement(Payload):
    """in-toto Statement v1."""

    model_config = ConfigDict(frozen=True, extra="forbid", validate_by_name=True, validate_by_alias=True)

    type: Literal["https://in-toto.io/Statement/v1"] = Field("https://in-toto.io/Statement/v1", alias="_type")
    subject: tuple[Subject, Subject]
    predicate_type: Literal["urn:nvp-agentkit:quorum-certificate:v1"] = Field(PREDICATE_TYPE, alias="predicateType")
    predicate: Predicate

    @classmethod
    def of(cls, predicate: Predicate) -> Self:
        return cls(subject=_subjects(predicate), predicate=predicate)

    @model_validator(mode="after")
    def _about_the_answer(self) -> Self:
        if self.subject != _subjects(self.predicate):
            raise ValueError("subject and answer are not the same arrays")
        return self


def certify(
    decision: Decision,
    ballots: Ballots,
    record: EnsembleRecord,
    *,
    request_id: str,
    request_digest: str,
    mean: ArrayRef,
    log_var: ArrayRef,
    account: str,
    energy: Reading,
    keys: KeyRing,
    tally: Signer,
) -> bytes:
    """The certificate of an accepted decision whose arrays lie at ``mean`` and ``log_var``.

    Promises: the same arguments give the same bytes, so a tally that decides again writes the same object.

    Raises:
        InvalidInput: the decision is not accepted; there is nothing to certify.
    """
    if decision.outcome != "accepted":
        raise InvalidInput(f"only an accepted decision is certified; this one is {decision.reason}")
    compared = [(pair, found) for pair, found in sorted(decision.pairs.items()) if found.distance < float("inf")]
    predicate = Predicate(
        request_id=request_id,
        request_digest=request_digest,
        account=account,
        energy=energy,
        ensemble=record,
        votes=ballots.envelopes,
        keys=(tally.certificate, *(keys.envelopes[keyid] for keyid in sorted({e.keyid for e in ballots.envelopes}))),
        outcome=Outcome(
            quorum=decision.quorum,
            agreed=decision.agreed,
            dissent=decision.dissent,
            missing=decision.missing,
            measured=tuple(Measured(voters=pair, **found._asdict()) for pair, found in compared),
        ),
        mean=mean,
        log_var=log_var,
    )
    return tally.sign(STATEMENT_TYPE, canonical_model(Statement.of(predicate))).encode()


def parse_statement(body: bytes) -> Statement:
    """The statement in an envelope's body. Not to be believed before `verify.verify`.

    Raises:
        VerificationFailed: it is no statement of ours.
    """
    try:
        return Statement.model_validate_json(body)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        where = ".".join(str(part) for part in first["loc"])
        raise VerificationFailed(f"not a quorum certificate: {where}: {first['msg']}") from error


def _subjects(predicate: Predicate) -> tuple[Subject, Subject]:
    mean, log_var = (ref.digest.removeprefix("sha256:") for ref in (predicate.mean, predicate.log_var))
    return Subject(name="mean", digest={"sha256": mean}), Subject(name="log_var", digest={"sha256": log_var})
