"""Which ensembles an account has, and which of them serve: a hash beside its streams, written by completion."""

from __future__ import annotations

from collections.abc import Collection
from difflib import get_close_matches
from functools import lru_cache
from typing import Any

from pydantic import ValidationError
from redis.asyncio import Redis

from nvp_agentkit.ensemble import service
from nvp_agentkit.ensemble.record import EnsembleRecord
from nvp_agentkit.ensemble.service import Change, Service
from nvp_agentkit.errors import UnknownModel
from nvp_agentkit.messages import Payload
from nvp_agentkit.streams import Delivery, names

SUFFIX = service.HASH
_CHANGING = "changing:"  # begins a field of that hash: a domain's change that is under way
Fields = tuple[tuple[str, str, str], ...]


def registration(record: EnsembleRecord) -> Fields:
    """Hash fields that have ``record`` serve a domain in which nothing else ever did."""
    return ((SUFFIX, record.domain, record.model_dump_json()), *known(record))


def known(record: EnsembleRecord) -> Fields:
    """Hash fields by which ``record`` is found by its digest: by requests that name it, by votes on the way."""
    return ((SUFFIX, record.digest, record.model_dump_json()),)


def dated(domain: str, change: Change) -> Fields:
    """``change`` as `Completion.dated`: it holds from the millisecond after the completion."""
    return ((SUFFIX, service.place_of(domain), change.model_dump_json(exclude_none=True, exclude={"since_ms"})),)


async def service_of(redis: Redis, account: str, domain: str) -> Service:
    """Who serves a domain, and did; nobody, where nothing was ever trained for it.

    Raises:
        UnknownModel: what is registered cannot be read.
    """
    raw: Any = await redis.hmget(names.key(account, SUFFIX), [service.place_of(domain), domain])
    return _service(*raw)


_service = lru_cache(maxsize=256)(Service.read)  # asked for with each request


@lru_cache(maxsize=1024)
def _record(account: str, name: str, raw: bytes) -> EnsembleRecord:
    try:
        return EnsembleRecord.model_validate_json(raw)
    except ValidationError as error:
        raise UnknownModel(f"the ensemble registered for {account}/{name} cannot be read; train it again") from error


def asked_at(delivery: Delivery) -> int:
    """When a request was published, by the server's clock; one that was replayed, when it first was."""
    return int(delivery.origin.partition("-")[0])


async def ensemble(redis: Redis, account: str, name: str) -> EnsembleRecord:
    """The ensemble with that digest, or the one that serves a domain now.

    Raises:
        UnknownModel: there is none; the text says how to get one.
    """
    digest = name
    if ":" not in name:
        champion = (await service_of(redis, account, name)).at().champion
        if champion is None:
            raise no_model(account, name, await domains(redis, account))
        digest = champion
    raw: Any = await redis.hget(names.key(account, SUFFIX), digest)
    if raw is None:
        raise UnknownModel(f"account {account} has no ensemble {digest}; `nvp models list` shows those that serve")
    return _record(account, name, raw)


async def all_of(redis: Redis, account: str) -> list[EnsembleRecord]:
    """Every ensemble of an account."""
    found: Any = await redis.hgetall(names.key(account, SUFFIX))
    fields = {name.decode(): raw for name, raw in found.items()}
    return [_record(account, name, raw) for name, raw in sorted(fields.items()) if name.startswith("sha256:")]


async def called(redis: Redis, account: str, name: str, what: str = "model") -> EnsembleRecord:
    """The ensemble with that digest, or whose champion has that model id.

    Raises:
        UnknownModel: none of this account; another voter's id is told whose it is.
    """
    known = await all_of(redis, account)
    for record in known:
        if name in (record.digest, record.champion.model_id):
            return record
    for record in known:
        for member in record.members:
            if member.model_id == name:
                raise UnknownModel(
                    f"{what} {name} is {member.voter} of an ensemble; give the ensemble, {record.digest}, or its "
                    f"champion, {record.champion.model_id}"
                )
    raise UnknownModel(
        f"{what} {name!r} is no ensemble of account {account} and no champion of one; a training's result has both: "
        "summary['ensemble'] and members[0].model_id"
    )


def no_model(account: str, name: str, known: Collection[str]) -> UnknownModel:
    """The refusal where a domain has no ensemble, with the one of the ``known`` domains that was perhaps meant."""
    meant = get_close_matches(name, known, 1)
    asked = f"{name!r}, did you mean {meant[0]!r}" if meant else repr(name)
    return UnknownModel(
        f"account {account} has no model for {asked}; train one: nvp.train({name!r}, data=..., budget_j=...), "
        "or ask for a first forecast without one: model='trivial', assurance='single'"
    )


async def domains(redis: Redis, account: str) -> list[str]:
    """The domains an account has an ensemble for."""
    return (await listed(redis, account))[0]


async def listed(redis: Redis, account: str) -> tuple[list[str], list[str]]:
    """The domains an account has an ensemble for, and those of them of which a change is under way."""
    raw: list[Any] = await redis.hkeys(names.key(account, SUFFIX))
    fields = [field.decode() for field in raw]
    return service.domains(fields), [one.removeprefix(_CHANGING) for one in fields if one.startswith(_CHANGING)]


class Changing(Payload):
    """A domain's change that is under way: by which request, and by which attempt at it (``token``).

    ``record``: who is about to serve, as soon as its voters are waited for. ``until_ms``, by the server's clock: it is
    over then, though nobody has ended it.
    """

    by: str
    token: str
    until_ms: int
    record: EnsembleRecord | None = None


def changing(domain: str) -> str:
    """The field of the hash where a domain's change is while it is under way."""
    return f"{_CHANGING}{domain}"


async def under_way(redis: Redis, account: str, domain: str) -> Changing | None:
    """The change of a domain that is under way; None where there is none, or whose worker died."""
    pipe = redis.pipeline()
    pipe.hget(names.key(account, SUFFIX), changing(domain))
    pipe.time()
    raw, (seconds, micros) = await pipe.execute()
    try:
        found = None if raw is None else Changing.model_validate_json(raw)
    except ValidationError:
        return None  # of another release, whose voters know it
    return found if found is not None and found.until_ms > 1000 * seconds + micros // 1000 else None
