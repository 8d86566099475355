"""The small values messages are made of: names, references to bytes, energy readings."""

from __future__ import annotations

import hashlib
import json
import math
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

AccountName = Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9-]{0,62}$")]
DomainName = Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9_]{0,62}$")]
Digest = Annotated[str, Field(pattern=r"^sha256:[0-9a-f]{64}$")]
Millijoules = Annotated[int, Field(ge=0, le=2**53)]

BYTES_PER_CELL = {"float32": 4, "float16": 2}
INLINE_BYTES = 16 * 1024  # larger arrays travel by reference
MAX_UNITS = 64  # characters


def digest_of(data: bytes | memoryview) -> str:
    """``sha256:...`` of the bytes, as a `Digest`."""
    return f"sha256:{hashlib.sha256(data).hexdigest()}"


def canonical_json(value: Any) -> bytes:
    """``value`` as JSON with sorted keys and no spaces: one text for one content. NaN and infinity are refused."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
    return text.encode()


class Payload(BaseModel):
    """A message body. Writers forbid what they do not know; readers ignore it (see `envelope`).

    A class's validator is built when first used: all of them at import cost every client 15 ms more.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", defer_build=True)


class ObjectRef(Payload):
    """Bytes in the artifact store, by content."""

    uri: str = Field(min_length=1, max_length=1024)
    digest: Digest
    bytes: int = Field(ge=0)
    media_type: str = "application/octet-stream"


class ArrayRef(Payload):
    """An array: raw little-endian C-order values, in the artifact store or inline as base64.

    The digest is the SHA-256 of those raw bytes, so one array has one digest wherever it lies, and
    there is no file header to believe: shape and dtype stand here.
    """

    shape: tuple[Annotated[int, Field(ge=1, le=2**31)], ...] = Field(min_length=1, max_length=4)
    dtype: Literal["float32", "float16"] = "float32"
    units: str = Field("1", max_length=MAX_UNITS)
    digest: Digest
    uri: str | None = Field(None, min_length=1, max_length=1024)
    inline: str | None = Field(None, description="base64 of the raw bytes")

    @model_validator(mode="after")
    def _one_place(self) -> Self:
        if (self.uri is None) == (self.inline is None):
            raise ValueError("an array is either at `uri` or `inline`: give exactly one")
        return self

    @property
    def cells(self) -> int:
        return math.prod(self.shape)

    @property
    def nbytes(self) -> int:
        return self.cells * BYTES_PER_CELL[self.dtype]


class Reading(Payload):
    """Energy used in a window, with bounds and how it is known. Unknown is no `Reading`, never 0.

    ``method``: `measured` (a counter that is the job's alone), `apportioned` (a counter times the
    job's share), `modelled` (no sensor), `forecast` (not spent yet).
    """

    mj: Millijoules
    lo_mj: Millijoules
    hi_mj: Millijoules
    method: Literal["measured", "apportioned", "modelled", "forecast"]
    sensor: str
    domain: str = "cpu"
    calibration_id: str = "default"
    cpu_ms: int = Field(0, ge=0)

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        if not self.lo_mj <= self.mj <= self.hi_mj:
            raise ValueError(f"bounds must enclose the value: {self.lo_mj} <= {self.mj} <= {self.hi_mj}")
        return self
