"""Names that follow from content: the digest is the address, so nothing is ever overwritten with something else."""

from __future__ import annotations

import re

from nvp_agentkit.errors import DigestMismatch, InvalidInput
from nvp_agentkit.messages.values import digest_of

_URI = re.compile(r"artifact:(sha256/([0-9a-f]{2})/([0-9a-f]{62}))")


def name_of(digest: str) -> str:
    """Where an object lies in any store: ``sha256/ab/cdef...``."""
    hexdigest = digest.removeprefix("sha256:")
    return f"sha256/{hexdigest[:2]}/{hexdigest[2:]}"


def uri_of(digest: str) -> str:
    """The object's URI. It names no folder and no host, so a container reads what its host wrote."""
    return "artifact:" + name_of(digest)


def name_in(uri: str, digest: str) -> str:
    """The name that ``uri`` means. Only our own form passes, so no URI can lead out of the store.

    Raises:
        InvalidInput: another scheme, or a path.
        DigestMismatch: URI and digest name different bytes.
    """
    match = _URI.fullmatch(uri)
    if match is None:
        raise InvalidInput(f"{uri!r} is no artifact; the form is artifact:sha256/ab/cdef..., as `put` returns it")
    if f"sha256:{match[2]}{match[3]}" != digest:
        raise DigestMismatch(f"the reference names {uri} and the digest {digest}; they must be the same bytes")
    return match[1]


def check_size(name: str, found: int, announced: int) -> None:
    """Raise `DigestMismatch` unless the stored size is the announced one; asked before anything is read."""
    if found != announced:
        raise DigestMismatch(f"{name} has {found:,} bytes, {announced:,} were announced; the reference is wrong")


def check(data: bytes | memoryview, digest: str) -> None:
    """Raise `DigestMismatch` unless ``data`` are the bytes that ``digest`` names."""
    check_digest(digest_of(data), digest, len(data))


def check_digest(found: str, digest: str, size: int) -> None:
    """Raise `DigestMismatch` unless the digest that was ``found`` is the one that was named."""
    if found != digest:
        raise DigestMismatch(f"these {size} bytes are {found}, not {digest}; put them again")
