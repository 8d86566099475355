"""One byte sequence for a value, so that a digest or a signature means the same on every machine."""

from __future__ import annotations

import base64
import binascii
from typing import TYPE_CHECKING

import numpy as np

from nvp_agentkit.errors import VerificationFailed
from nvp_agentkit.messages.values import canonical_json, digest_of

if TYPE_CHECKING:
    from pydantic import BaseModel

    from nvp_agentkit.messages import ArrayRef

WIRE_DTYPES: dict[str, np.dtype[np.floating]] = {"float32": np.dtype("<f4"), "float16": np.dtype("<f2")}


def canonical_model(model: BaseModel) -> bytes:
    """A message's canonical bytes. Fields that are None are left out: a later optional field changes no digest."""
    return canonical_json(model.model_dump(mode="json", by_alias=True, exclude_none=True))


def array_digest(array: np.ndarray, dtype: str = "float32") -> str:
    """Digest of an array's raw little-endian C-order values, as an `ArrayRef` states it."""
    return digest_of(np.ascontiguousarray(array, dtype=WIRE_DTYPES[dtype]).tobytes())


def is_array(array: np.ndarray, ref: ArrayRef) -> bool:
    """True if ``array`` is the one that ``ref`` names: shape, dtype and every bit."""
    return (
        array.shape == ref.shape
        and array.dtype == WIRE_DTYPES[ref.dtype]
        and array_digest(array, ref.dtype) == ref.digest
    )


def carried_array(ref: ArrayRef) -> np.ndarray:
    """The array that ``ref`` carries inline.

    Raises:
        VerificationFailed: the bytes are not base64 or not as many as the shape says.
    """
    raw = unbase64(ref.inline or "")
    if len(raw) != ref.nbytes:
        raise VerificationFailed(f"inline array of {len(raw)} bytes, its shape {ref.shape} needs {ref.nbytes}")
    array: np.ndarray = np.frombuffer(raw, WIRE_DTYPES[ref.dtype])
    return array.reshape(ref.shape)


def to_base64(raw: bytes) -> str:
    return base64.b64encode(raw).decode("ascii")


def unbase64(text: str) -> bytes:
    """Bytes of ``text``, which must be *the* base64 of them: spare bits set otherwise are refused.

    Raises:
        VerificationFailed: another spelling, or no base64.
    """
    try:
        raw = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError) as error:
        raise VerificationFailed(f"not base64: {error}") from error
    if to_base64(raw) != text:
        raise VerificationFailed("not the canonical base64 of its bytes")
    return raw
