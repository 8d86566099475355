"""Which ensemble serves a domain, and since when: changes in their order, stamped by the stream server's own clock.

A request is answered by what stood when it was asked, which its entry's id says by that same clock. So all voters of a
quorum mean one ensemble, whenever each of them looks.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import sha256
from typing import Literal, Self

from pydantic import Field, TypeAdapter, ValidationError

from nvp_agentkit.ensemble.record import EnsembleRecord
from nvp_agentkit.errors import UnknownModel
from nvp_agentkit.messages import Digest, Payload

ALIASES = ("champion", "challenger", "previous")
HASH = "models"  # suffix of the account's key; its fields besides: an ensemble's digest -> its record
_FIELD = "service:"


class Change(Payload):
    """An ensemble took a place: it serves from then on, or answers a ``share`` of the requests beside who serves."""

    place: Literal["champion", "challenger"]
    ensemble: Digest
    share: float = Field(0.0, ge=0, lt=1)
    over: Digest | None = Field(None, description="who served before, as far as known")
    by: str = Field(max_length=128, description="the job or request behind it")
    why: str = Field("", max_length=500)
    since_ms: int = Field(0, ge=0, description="the first millisecond of the server's clock that it holds for")


_CHANGES: TypeAdapter[tuple[Change, ...]] = TypeAdapter(tuple[Change, ...])


@dataclass(frozen=True)
class Standing:
    """Who serves, by digest, at one moment."""

    champion: str | None = None
    challenger: str | None = None
    share: float = 0.0  # of the requests, the challenger's
    previous: str | None = None

    def after(self, change: Change) -> Standing:
        """What stands then. A new champion ends a trial: what it was tried against is gone."""
        if change.place == "challenger":
            return Standing(self.champion, change.ensemble, change.share, self.previous)
        if change.ensemble == self.champion:
            return Standing(self.champion, previous=self.previous)
        return Standing(change.ensemble, previous=self.champion or change.over)

    def of(self, request_id: str) -> str | None:
        """Who answers this request, whoever asks and whenever: a request's id decides whether it is on trial."""
        if self.share and int.from_bytes(sha256(request_id.encode()).digest()[:8]) < self.share * 2**64:
            return self.challenger
        return self.champion

    def called(self, alias: str) -> str | None:
        """The digest behind one of `ALIASES`.

        Raises:
            UnknownModel: it is none of them.
        """
        if alias not in ALIASES:
            raise UnknownModel(f"no alias {alias!r}; there are {', '.join('@' + one for one in ALIASES)}")
        return {"champion": self.champion, "challenger": self.challenger, "previous": self.previous}[alias]


@dataclass(frozen=True)
class Service:
    """All that is known of a domain's service: who served before any change is known, and the changes."""

    first: str | None = None
    changes: tuple[Change, ...] = ()

    @classmethod
    def read(cls, changes: bytes | None, first: bytes | None) -> Self:
        """From what the account's hash has at `place_of`, and the record that it has under the domain's own name.

        Raises:
            UnknownModel: it cannot be read.
        """
        try:
            digest = None if first is None else EnsembleRecord.model_validate_json(first).digest
            return cls(digest, _CHANGES.validate_json(changes or b"[]", extra="ignore"))
        except ValidationError as error:
            raise UnknownModel("the ensemble registered for it cannot be read; train it again") from error

    @property
    def _at_first(self) -> str | None:
        """Who served before the changes that are kept."""
        for change in self.changes:
            if change.place == "champion":
                return change.over or self.first or change.ensemble
        return self.first

    def at(self, ms: int | None = None) -> Standing:
        """What stood for a request of that millisecond; None: what stands now."""
        found = Standing(self._at_first)
        for change in self.changes:
            if ms is None or change.since_ms <= ms:
                found = found.after(change)
        return found


def place_of(domain: str) -> str:
    """The field of the hash where a domain's changes are."""
    return f"{_FIELD}{domain}"


def domains(fields: Sequence[str]) -> list[str]:
    """Domains that something serves, by the hash's fields; one without a colon is of a domain never changed."""
    return sorted({name.removeprefix(_FIELD) for name in fields if name.startswith(_FIELD) or ":" not in name})


def alias_of(model: str, domain: str) -> str | None:
    """``domain@champion`` and ``@champion`` are ``champion``; None where ``model`` is no alias.

    Raises:
        UnknownModel: an alias of another domain.
    """
    of, at, alias = model.rpartition("@")
    if not at:
        return None
    if of not in ("", domain):
        raise UnknownModel(f"model {model!r} is of {of!r}, and the request of {domain!r}; write {domain}@{alias}")
    return alias
