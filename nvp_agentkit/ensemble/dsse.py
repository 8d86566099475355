"""DSSE envelopes: a payload, its type, and a signature over both.

Source: https://github.com/secure-systems-lab/dsse (protocol.md, envelope.md), Ed25519 signatures.
Stricter than the standard in one thing: an envelope has exactly one signature and one spelling, so that
no byte of it can change unnoticed (DSSE itself leaves ``keyid`` and white space unsigned).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pydantic import ConfigDict, Field, ValidationError

from nvp_agentkit.ensemble.canonical import canonical_model, to_base64, unbase64
from nvp_agentkit.errors import VerificationFailed
from nvp_agentkit.messages import Digest, Payload
from nvp_agentkit.messages.values import digest_of

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

MAX_ENVELOPE_BYTES = 4 * 1024 * 1024


class Signature(Payload):
    """``keyid`` is the SHA-256 of the raw public key."""

    keyid: Digest
    sig: str = Field(max_length=128)


class Envelope(Payload):
    """The DSSE JSON envelope."""

    model_config = ConfigDict(frozen=True, extra="forbid", validate_by_name=True, validate_by_alias=True)

    payload: str
    payload_type: str = Field(alias="payloadType", max_length=128)
    signatures: tuple[Signature]

    @property
    def keyid(self) -> str:
        return self.signatures[0].keyid

    @property
    def body(self) -> bytes:
        """The payload's bytes. Not to be believed before `check`."""
        return unbase64(self.payload)

    def encode(self) -> bytes:
        return canonical_model(self)


def pre_authentication_encoding(payload_type: str, body: bytes) -> bytes:
    """The bytes that are signed: ``DSSEv1 LEN(type) type LEN(body) body``."""
    kind = payload_type.encode()
    return b"DSSEv1 %d %b %d %b" % (len(kind), kind, len(body), body)


def keyid_of(public_key: bytes) -> str:
    return digest_of(public_key)


def seal(key: Ed25519PrivateKey, payload_type: str, body: bytes) -> Envelope:
    """Sign ``body``. Ed25519 is deterministic: the same body and key give the same envelope."""
    signature = Signature(
        keyid=keyid_of(key.public_key().public_bytes_raw()),
        sig=to_base64(key.sign(pre_authentication_encoding(payload_type, body))),
    )
    return Envelope(payload=to_base64(body), payload_type=payload_type, signatures=(signature,))


def check(envelope: Envelope, public_key: bytes, payload_type: str) -> bytes:
    """The body, once its type and its signature by ``public_key`` (32 raw bytes) hold.

    Raises:
        VerificationFailed: naming which of type, key and signature does not.
    """
    from cryptography.exceptions import InvalidSignature
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

    if envelope.payload_type != payload_type:
        raise VerificationFailed(f"payload is {envelope.payload_type!r}, expected {payload_type!r}")
    if envelope.keyid != keyid_of(public_key):
        raise VerificationFailed(f"signed by key {envelope.keyid}, expected {keyid_of(public_key)}")
    body = envelope.body
    signed = pre_authentication_encoding(payload_type, body)
    try:
        Ed25519PublicKey.from_public_bytes(public_key).verify(unbase64(envelope.signatures[0].sig), signed)
    except InvalidSignature as error:
        raise VerificationFailed(f"signature of key {envelope.keyid} does not hold") from error
    return body


def decode(raw: bytes | str) -> Envelope:
    """Read an envelope written by `Envelope.encode`, and only such a one.

    Raises:
        VerificationFailed: too large, no envelope, or another spelling of one.
    """
    data = raw.encode() if isinstance(raw, str) else raw
    if len(data) > MAX_ENVELOPE_BYTES:
        raise VerificationFailed(f"envelope of {len(data)} bytes, limit {MAX_ENVELOPE_BYTES}")
    try:
        envelope = Envelope.model_validate_json(data)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        raise VerificationFailed(f"not a DSSE envelope, which certificates and votes are: {first['msg']}") from error
    if envelope.encode() != data:
        raise VerificationFailed("not the canonical spelling of its DSSE envelope; keep the bytes as they came")
    return envelope
