"""Which ensemble serves an account's domain: a hash beside the account's streams, written by completion alone."""

from __future__ import annotations

from collections.abc import Collection
from difflib import get_close_matches
from typing import Any

from pydantic import ValidationError
from redis.asyncio import Redis

from nvp_agentkit.ensemble.record import EnsembleRecord
from nvp_agentkit.errors import UnknownModel
from nvp_agentkit.streams import names

SUFFIX = "models"


def registration(record: EnsembleRecord) -> tuple[tuple[str, str, str], ...]:
    """Hash fields that put ``record`` into service; old ones stay readable by digest for votes on the way."""
    text = record.model_dump_json()
    return (SUFFIX, record.domain, text), (SUFFIX, record.digest, text)


async def ensemble(redis: Redis, account: str, name: str) -> EnsembleRecord:
    """The ensemble in service for a domain, or the one with that digest.

    Raises:
        UnknownModel: there is none; the text says how to get one.
    """
    raw = await redis.hget(names.key(account, SUFFIX), name)
    if raw is None:
        raise no_model(account, name, await domains(redis, account))
    try:
        return EnsembleRecord.model_validate_json(raw)
    except ValidationError as error:
        raise UnknownModel(f"the ensemble registered for {account}/{name} cannot be read; train it again") from error


async def to_go_on_from(redis: Redis, account: str, parent: str) -> EnsembleRecord:
    """The ensemble with that digest, or whose champion has that model id.

    Raises:
        UnknownModel: none of this account; another voter's id is told whose it is.
    """
    values: list[Any] = await redis.hvals(names.key(account, SUFFIX))
    known = [EnsembleRecord.model_validate_json(raw) for raw in values]
    for record in known:
        if parent in (record.digest, record.champion.model_id):
            return record
    for record in known:
        for member in record.members:
            if member.model_id == parent:
                raise UnknownModel(
                    f"parent {parent} is {member.voter} of an ensemble; give the ensemble, {record.digest}, or its "
                    f"champion, {record.champion.model_id}"
                )
    raise UnknownModel(
        f"parent {parent!r} is no ensemble of account {account} and no champion of one; a training's result has both: "
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
    fields: list[Any] = await redis.hkeys(names.key(account, SUFFIX))
    return sorted(field.decode() for field in fields if b":" not in field)
