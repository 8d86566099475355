"""Asking for another ensemble in service, and every way that is answered."""

from __future__ import annotations

from pydantic import Field

from nvp_agentkit.messages.values import Digest, DomainName, Payload


class ServiceChangeRequested(Payload):
    """Let an ensemble of the account serve a domain, or answer a share of its requests.

    It costs no joules. Requests published before the change are answered by what stood then.
    """

    domain: DomainName
    model: str = Field(
        min_length=1, max_length=128, description="@challenger, @previous, an ensemble's digest or its champion's id"
    )
    share: float | None = Field(
        None, ge=0, lt=1, description="of the requests, beside who serves; 0 ends that; default: it serves, all of them"
    )
    reason: str | None = Field(None, max_length=200)
    force: bool = Field(
        False, description="also where it is not known to err less than who serves, or a voter has not compiled it yet"
    )


class ServiceChanged(Payload):
    """What stands from now on. Ensembles are named by their digests."""

    request_id: str
    domain: DomainName
    champion: Digest
    challenger: Digest | None = None
    share: float = 0.0
    previous: Digest | None = None
    warm: tuple[str, ...] = Field((), description="workers that had it compiled before it answered anybody")
    cold: tuple[str, ...] = Field((), description="workers that were not waited for any longer")


class ServiceChangeRefused(Payload):
    """Nothing has changed, and why."""

    request_id: str
    code: str
    detail: str
