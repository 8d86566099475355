"""Which ensemble serves: one that was just trained if it is the better one, any other when its account says so."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import structlog

from nvp_agentkit.ensemble import EnsembleRecord
from nvp_agentkit.ensemble.service import Change, Standing, alias_of
from nvp_agentkit.errors import InvalidInput, NvpError, UnknownModel
from nvp_agentkit.messages import LineageRecorded, ServiceChanged, ServiceChangeRefused, ServiceChangeRequested
from nvp_agentkit.messages.predictions import names_ensemble
from nvp_agentkit.streams import AWAY, Completion, Delivery

from .. import facts
from ..jobs import keeping
from ..requests import body
from ..system import System
from . import registry, switching

TO_SPARE_S = 2.0  # of a deadline, for the answer
log = structlog.get_logger()


@dataclass(frozen=True)
class Placed:
    """Where a training's ensemble stands: what its completion sets, what its reply and the graph say of that."""

    fields: registry.Fields
    dated: registry.Fields = ()
    summary: dict[str, float | str] = field(default_factory=dict)
    facts: tuple[LineageRecorded, ...] = ()


async def place(
    delivery: Delivery, record: EnsembleRecord, beside: Mapping[str, Any] | None, system: System
) -> Placed:
    """Into service where nothing else is or it errs less than what is, else beside it; with the reason, and figures.

    Args:
        beside: what the child found of both (`compute.operations.comparing`).
    """
    standing = await _standing(system, delivery.account, record.domain)
    if standing.champion is None:
        why = "the first of its domain"
        return _placed(delivery, record, standing, "champion", why, registry.registration(record), {})
    fields, figures = registry.known(record), _figures(beside)
    if record.digest == standing.champion:
        why = "it is the one in service"
        return Placed(fields, summary={**figures, "service": "champion", "service_because": why})
    better, why = _verdict(beside, standing.champion)
    if better:
        warmth = await _warmed(delivery, record, system)
        if warmth.broken:
            better, why = False, f"{why}, but {_broken(warmth)}"
        else:
            why = f"{why}; {warmth}"
    if better:
        return _placed(delivery, record, standing, "champion", why, fields, figures)
    if standing.share:  # a trial goes on until somebody ends it
        why = f"{why}; {standing.challenger} stays on trial"
        return Placed(fields, summary={**figures, "service": "kept", "service_because": why})
    return _placed(delivery, record, standing, "challenger", why, fields, figures)


def _placed(
    delivery: Delivery,
    record: EnsembleRecord,
    standing: Standing,
    to: Literal["champion", "challenger"],
    why: str,
    fields: registry.Fields,
    figures: dict[str, float | str],
) -> Placed:
    change = Change(place=to, ensemble=record.digest, over=standing.champion, by=delivery.request_id, why=why[:500])
    log.info("ensemble placed", domain=record.domain, ensemble=record.digest, place=to, why=why)
    told = facts.placed(delivery.account, record, change)
    summary = {**figures, "service": change.place, "service_because": why}
    return Placed(fields, registry.dated(record.domain, change), summary, (told,))


def _verdict(beside: Mapping[str, Any] | None, champion: str) -> tuple[bool, str]:
    """Whether it errs less than who serves, in words."""
    if beside is None or beside["ensemble"] != champion:
        return False, "another ensemble has come into service since it was begun"
    if beside["why"]:
        return False, f"not compared with who serves: {beside['why']}"
    ours, theirs = beside["ours"], beside["theirs"]
    held_out = "one held-out trajectory" if (n := beside["trajectories"]) == 1 else f"{n} held-out trajectories"
    of = f"VRMSE {ours:.4f} against {theirs:.4f} of who serves on {held_out}"
    low, high = beside["less"]
    return ours < theirs, of if low is None else f"{of}, 95% of resamples {low:+.4f} to {high:+.4f} less"


def _figures(beside: Mapping[str, Any] | None) -> dict[str, float | str]:
    if beside is None or "ours" not in beside:
        return {}
    return {"vrmse_champion": beside["ours"], "vrmse_in_service": beside["theirs"]}


async def change(delivery: Delivery, system: System) -> Completion:
    """What the account says shall serve, or answer a share; warm before it does.

    Raises:
        UnknownModel, InvalidInput: there is no such ensemble, or it is not of that domain.
        NvpError: a voter cannot load it; nothing has changed.
    """
    asked, account = body(delivery, ServiceChangeRequested), delivery.account
    standing = (await registry.service_of(system.redis, account, asked.domain)).at()
    if standing.champion is None:
        raise registry.no_model(account, asked.domain, await registry.domains(system.redis, account))
    record = await _meant(account, asked, standing, system)
    if asked.share is not None and record.digest == standing.champion:
        raise InvalidInput(f"{record.digest} serves {asked.domain} already; a share is for one that does not")
    warmth = switching.Warmth() if asked.share == 0 else await _warmed(delivery, record, system)
    if warmth.broken:
        raise NvpError(f"nothing has changed: {_broken(warmth)}")
    said = Change(
        place="champion" if asked.share is None else "challenger",
        ensemble=record.digest,
        share=asked.share or 0.0,
        over=standing.champion,
        by=delivery.request_id,
        why=f"asked for{': ' + asked.reason if asked.reason else ''}",
    )
    stands = standing.after(said)
    log.info("service changed", account=account, domain=asked.domain, ensemble=record.digest, place=said.place)
    reply = ServiceChanged(
        request_id=delivery.request_id,
        domain=asked.domain,
        champion=stands.champion or record.digest,
        challenger=stands.challenger,
        share=stands.share,
        previous=stands.previous,
        warm=warmth.warm,
        cold=warmth.cold,
    )
    return Completion(
        replies=(system.event(reply, delivery, reply=True),),
        facts=(system.fact(facts.placed(account, record, said), delivery),),
        dated=registry.dated(asked.domain, said),
    )


def refuse(system: System, delivery: Delivery, error: NvpError) -> Completion:
    reply = ServiceChangeRefused(request_id=delivery.request_id, code=error.code, detail=str(error))
    return Completion(replies=(system.event(reply, delivery, reply=True),))


async def _meant(account: str, asked: ServiceChangeRequested, standing: Standing, system: System) -> EnsembleRecord:
    name = asked.model
    if alias := alias_of(name, asked.domain):
        found = standing.called(alias)
        if found is None:
            raise UnknownModel(f"{asked.domain} has no {alias}; `nvp models list` shows what there is")
        name = found
    if names_ensemble(name):
        record = await registry.ensemble(system.redis, account, name)
    else:
        record = await registry.called(system.redis, account, name)
    if record.domain != asked.domain:
        raise InvalidInput(f"{name} is an ensemble of {record.domain}; it cannot serve {asked.domain}")
    return record


async def _standing(system: System, account: str, domain: str) -> Standing:
    """Who serves now. What was trained is paid for: a server that is away for a moment does not have it done again."""
    for wait_s in keeping.KEEP_WAITS_S:
        try:
            return (await registry.service_of(system.redis, account, domain)).at()
        except AWAY as error:
            log.warning("not known who serves yet", account=account, domain=domain, reason=str(error))
            await asyncio.sleep(wait_s)
    return (await registry.service_of(system.redis, account, domain)).at()


async def _warmed(delivery: Delivery, record: EnsembleRecord, system: System) -> switching.Warmth:
    limit_s = min(switching.WAIT_S, max(delivery.remaining_s - TO_SPARE_S, 0.0))
    return await switching.warmed(system, delivery.account, record, limit_s=limit_s)


def _broken(warmth: switching.Warmth) -> str:
    return "; ".join(f"{worker} cannot load it: {why}" for worker, why in warmth.broken.items())
