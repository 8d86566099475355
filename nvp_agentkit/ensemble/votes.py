"""A vote: one voter's answer to one request, signed."""

from __future__ import annotations

from typing import Annotated

import numpy as np
from pydantic import Field, ValidationError

from nvp_agentkit.ensemble.agreement import valid_cells
from nvp_agentkit.ensemble.canonical import canonical_model
from nvp_agentkit.ensemble.dsse import Envelope, decode
from nvp_agentkit.ensemble.keys import KeyRing, Signer
from nvp_agentkit.ensemble.record import EnsembleRecord, VoterName
from nvp_agentkit.errors import InvalidField, UnknownModel, VerificationFailed
from nvp_agentkit.messages import ArrayRef, Digest, Payload

VOTE_TYPE = "application/vnd.nvp.vote+json"
MAX_VOTE_BYTES = 128 * 1024  # two votes of each of seven voters must fit into a certificate
BAND_EDGES = (8, 32)  # physics.md: spectral bands k < 8, 8 to 32, > 32

Finite = Annotated[float, Field(allow_inf_nan=False)]


class Summary(Payload):
    """What can be said of a mean without its array, over its valid cells."""

    cells: int = Field(ge=1)
    sum: Finite
    min: Finite
    max: Finite
    bands: tuple[Finite, Finite, Finite] = Field(description="RMS amplitude at wavenumbers < 8, 8 to 32, > 32")


class Vote(Payload):
    """What is signed. ``request_digest`` is the digest of the request's field, ``record`` that of the ensemble."""

    request_id: str = Field(min_length=1, max_length=128)
    request_digest: Digest
    record: Digest
    voter: VoterName
    model_id: str = Field(min_length=1, max_length=128)
    mean: ArrayRef
    log_var: ArrayRef
    summary: Summary
    issued_at_ms: int = Field(ge=0)


def summarize(mean: np.ndarray, mask: np.ndarray | None = None) -> Summary:
    """The summary of a map, shape (H, W), over its `valid_cells`.

    Raises:
        InvalidField: no valid cell, or one of them is not finite.
    """
    values = np.asarray(mean, np.float64)
    valid = valid_cells(values.shape, mask)
    inside = values[valid]
    if not np.isfinite(inside).all():
        raise InvalidField(f"{inside.size - int(np.isfinite(inside).sum())} of {inside.size} valid cells not finite")
    return Summary(
        cells=inside.size,
        sum=float(inside.sum()),
        min=float(inside.min()),
        max=float(inside.max()),
        bands=_bands(np.where(valid, values, inside.mean())),
    )


def make_vote(
    record: EnsembleRecord,
    voter: str,
    mean: np.ndarray,
    *,
    refs: tuple[ArrayRef, ArrayRef],
    request_id: str,
    request_digest: str,
    issued_at_ms: int,
    mask: np.ndarray | None = None,
) -> Vote:
    """The vote of ``voter`` for ``mean``, whose array and log-variance lie at ``refs``.

    Raises:
        InvalidField: the mean is not finite: a broken model does not vote.
        UnknownModel: ``voter`` is no member of the ensemble.
    """
    model_id = record.model_of(voter)
    if model_id is None:
        raise UnknownModel(f"{voter} is no member of {record.domain}; members: {', '.join(record.voters)}")
    return Vote(
        request_id=request_id,
        request_digest=request_digest,
        record=record.digest,
        voter=voter,
        model_id=model_id,
        mean=refs[0],
        log_var=refs[1],
        summary=summarize(mean, mask),
        issued_at_ms=issued_at_ms,
    )


def sign_vote(vote: Vote, signer: Signer) -> Envelope:
    return signer.sign(VOTE_TYPE, canonical_model(vote))


def open_vote(envelope: Envelope | bytes | str, keys: KeyRing) -> Vote:
    """The vote in ``envelope``, once it is known to be that voter's.

    Raises:
        VerificationFailed: key, role, signature or name does not hold, or it is no vote.
    """
    sealed = envelope if isinstance(envelope, Envelope) else decode(envelope)
    certificate, body = keys.open(sealed, VOTE_TYPE, "voter")
    if len(body) > MAX_VOTE_BYTES:
        raise VerificationFailed(f"vote of {len(body)} bytes, limit {MAX_VOTE_BYTES}; keep its arrays in the store")
    try:
        vote = Vote.model_validate_json(body)
    except ValidationError as error:
        raise VerificationFailed(f"{certificate.name} signed something that is no vote") from error
    if vote.voter != certificate.name:
        raise VerificationFailed(f"{certificate.name} signed a vote in the name of {vote.voter}")
    return vote


def _bands(values: np.ndarray) -> tuple[float, float, float]:
    """RMS amplitude in three bands of radial wavenumber (cycles per box side); the mean is left out."""
    height, width = values.shape
    power = np.abs(np.fft.fft2(values - values.mean()) / values.size) ** 2
    radius = np.hypot(np.fft.fftfreq(height, 1 / height)[:, None], np.fft.fftfreq(width, 1 / width)[None, :])
    low, high = BAND_EDGES
    masks = (radius < low, (radius >= low) & (radius <= high), radius > high)
    first, second, third = (float(np.sqrt(power[band].sum())) for band in masks)
    return first, second, third
