"""NumPy arrays as raw bytes: shape and dtype stand in the reference, there is no header to believe."""

from __future__ import annotations

import base64

import numpy as np
from numpy.typing import NDArray

from nvp_agentkit.artifacts import content
from nvp_agentkit.errors import DigestMismatch, InvalidField
from nvp_agentkit.messages.values import INLINE_BYTES, ArrayRef, digest_of

FloatArray = NDArray[np.float32] | NDArray[np.float16]

_LITTLE_ENDIAN = {"float32": "<f4", "float16": "<f2"}


def raw_bytes(array: FloatArray) -> bytes:
    """The array's values, little-endian, C order.

    Raises:
        InvalidField: dtype, number of dimensions or an empty array.
    """
    if array.dtype.name not in _LITTLE_ENDIAN:
        raise InvalidField(f"array of {array.dtype.name}; convert it with .astype('float32')")
    if not 1 <= array.ndim <= 4 or array.size == 0:
        raise InvalidField(f"array of shape {array.shape}; give 1 to 4 dimensions, none of them empty")
    return array.astype(_LITTLE_ENDIAN[array.dtype.name], copy=False).tobytes()


def inline_array(array: FloatArray, units: str = "1") -> ArrayRef:
    """A reference that carries the array itself.

    Raises:
        InvalidField: more than 16 KiB, or not an array we carry.
    """
    raw = raw_bytes(array)
    if len(raw) > INLINE_BYTES:
        raise InvalidField(f"array of {len(raw)} bytes, inline limit {INLINE_BYTES}; put it into the artifact store")
    return ArrayRef(
        shape=array.shape,
        dtype=array.dtype.name,
        units=units,
        digest=digest_of(raw),
        inline=base64.b64encode(raw).decode(),
    )


def check_cells(ref: ArrayRef, max_cells: int) -> None:
    """Refuse an array by its declared shape, before anything is read or allocated."""
    if ref.cells > max_cells:
        shape = " x ".join(map(str, ref.shape))
        raise InvalidField(f"array of {shape} = {ref.cells:,} cells, limit {max_cells:,}; send a smaller one")


def inline_bytes(ref: ArrayRef) -> bytes:
    """The bytes an inline reference carries; their number is checked before they are decoded."""
    text = ref.inline or ""
    expected = 4 * -(-ref.nbytes // 3)
    if len(text) != expected:
        raise InvalidField(f"inline array of {len(text)} characters; shape {ref.shape} {ref.dtype} takes {expected}")
    try:
        raw = base64.b64decode(text, validate=True)
    except ValueError as error:  # binascii.Error, and another one for what is not ASCII
        raise InvalidField(f"inline array is no base64: {error}") from error
    content.check(raw, ref.digest)
    return raw


def array_from(ref: ArrayRef, raw: bytes) -> FloatArray:
    """The array that verified bytes hold, read-only.

    Raises:
        DigestMismatch: the bytes are not as many as shape and dtype say.
    """
    if len(raw) != ref.nbytes:
        raise DigestMismatch(f"{len(raw)} bytes for shape {ref.shape} {ref.dtype}, which takes {ref.nbytes}")
    if ref.dtype == "float16":
        return np.frombuffer(raw, dtype="<f2").astype(np.float16, copy=False).reshape(ref.shape)
    return np.frombuffer(raw, dtype="<f4").astype(np.float32, copy=False).reshape(ref.shape)
