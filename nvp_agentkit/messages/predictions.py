"""Asking for a forecast, and every way it can be answered."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from nvp_agentkit.messages.values import ArrayRef, Digest, DomainName, ObjectRef, Payload, Reading

TRIVIAL = "trivial"  # `trivial:NAME` is the model id of a forecaster that was never trained


def names_ensemble(model: str) -> bool:
    """Whether a request's ``model`` is a whole ensemble, by digest or alias, which can be asked for a quorum."""
    return "@" in model or model.startswith("sha256:")


class PredictionRequested(Payload):
    """Forecast the frame after ``field``, shape (H, W) or (K, H, W), oldest frame first.

    Budget and deadline travel in the envelope (``budgetmj``, ``deadline``); who pays is the stream.
    """

    domain: DomainName
    field: ArrayRef
    model: str | None = Field(
        None, max_length=128,
        description="a model's id; an ensemble's digest, DOMAIN@champion, @challenger, @previous; default: who serves",
    )  # fmt: skip
    assurance: Literal["single", "quorum"] = "single"
    keep_s: int = Field(
        86_400, ge=60, le=31_536_000,
        description="how long the asker needs the answer's arrays; nothing is removed sooner, and today nothing at all",
    )  # fmt: skip
    inline_answer: bool = Field(False, description="with `single`: arrays of up to 16 KiB in the answer itself")


class PredictionCompleted(Payload):
    """One model's answer (``assurance="single"``)."""

    request_id: str
    model_id: str
    mean: ArrayRef
    log_var: ArrayRef
    energy: Reading
    assurance: Literal["single"] = "single"
    ood: float | None = Field(
        None, ge=0, le=1,
        description="share of held-out fields that are more like the training data; above 0.95 this one is unfamiliar",
    )  # fmt: skip
    widths: dict[str, float] | None = Field(
        None,
        description="half widths, in standard deviations, that held 50, 90 and 95 % of held-out cells, by that number; "
        "none: nothing was held out",
    )  # fmt: skip
    cached: str | None = Field(
        None, max_length=128, description="the earlier request of the same question whose answer this is, at no cost"
    )


class VoteCast(Payload):
    """One voter's answer to an ensemble request, as a signed DSSE envelope.

    ``envelope`` is the DSSE JSON whose payload is the canonical vote (`ensemble.votes.Vote`);
    a voter that could not answer sends ``failed`` with the reason instead.
    """

    request_id: str
    request_digest: Digest = Field(description="digest of the request's field")
    record: Digest = Field(description="digest of the ensemble record the voter went by")
    keep_s: int = Field(
        86_400, ge=60, le=31_536_000,
        description="how long the asker needs the answer's arrays; nothing is removed sooner, and today nothing at all",
    )  # fmt: skip
    voter: str
    envelope: str | None = None
    failed: str | None = None
    energy: Reading | None = None


class PredictionCertified(Payload):
    """A quorum's answer with the certificate that proves it."""

    request_id: str
    mean: ArrayRef
    log_var: ArrayRef
    certificate: ObjectRef
    agreed: tuple[str, ...]
    dissent: tuple[str, ...] = ()
    missing: tuple[str, ...] = ()
    models: dict[str, str] = Field(default_factory=dict, description="voter -> model id")
    energy: Reading
    assurance: Literal["quorum"] = "quorum"


class PredictionAbstained(Payload):
    """No quorum: there is no answer to believe, and this says who differed."""

    request_id: str
    reason: str
    votes: dict[str, str] = Field(default_factory=dict, description="voter -> what it did")
    energy: Reading | None = None


class PredictionRefused(Payload):
    """Not answered, and why. ``code`` is one of `errors`; ``detail`` names value, limit, remedy."""

    request_id: str
    code: str
    detail: str
    retry_after_s: float | None = None
