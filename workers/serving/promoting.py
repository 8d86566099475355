"""Which ensemble serves: one that was just trained if it is the better one, any other when its account says so."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal

import structlog

from nvp_agentkit.ensemble import EnsembleRecord
from nvp_agentkit.ensemble.service import Change, Standing, alias_of
from nvp_agentkit.errors import DeadlineExceeded, InvalidInput, NotReady, NvpError, StoreUnavailable, UnknownModel
from nvp_agentkit.messages import LineageRecorded, ServiceChanged, ServiceChangeRefused, ServiceChangeRequested
from nvp_agentkit.messages.predictions import names_ensemble
from nvp_agentkit.streams import Completion, Delivery, RedisError

from .. import facts
from ..requests import body
from ..system import System
from . import gating, registry, switching

TO_SPARE_S = 2.0  # of a deadline, for the answer
NOBODY = "no voter of it runs"
log = structlog.get_logger()


@dataclass(frozen=True)
class Placed:
    """Where a training's ensemble stands: what its completion sets, what its reply and the graph say of that."""

    fields: registry.Fields
    dated: registry.Fields = ()
    summary: dict[str, float | str] = field(default_factory=dict)
    facts: tuple[LineageRecorded, ...] = ()
    unset: tuple[tuple[str, str, str], ...] = ()


async def place(delivery: Delivery, record: EnsembleRecord, beside: Mapping[str, Any] | None, system: System) -> Placed:
    """Into service where nothing else is or it errs less than what is, else beside it; with the reason, and figures.

    Args:
        beside: what the child found of both (`compute.operations.comparing`).
    """
    standing = await _standing(system, delivery.account, record.domain)
    if standing.champion is None:
        why = "the first of its domain"
        return _placed(delivery, record, standing, "champion", why, registry.registration(record), {})
    judged = gating.judged(record.digest, beside)
    fields, figures = (*registry.known(record), *gating.known(judged)), _figures(judged)
    if record.digest == standing.champion:
        why = "it is the one in service"
        return Placed(registry.known(record), summary={**figures, "service": "champion", "service_because": why})
    better, why = _verdict(beside, judged, standing.champion)
    if better:
        try:
            async with switching.alone(system, delivery, record.domain) as switch:
                if (await _standing(system, delivery.account, record.domain)).champion != standing.champion:
                    raise NotReady("another ensemble has come into service meanwhile")
                told = f"{why}; {await _warmed(delivery, record, switch)}"
                placed = _placed(delivery, record, standing, "champion", told, fields, figures)
                return replace(placed, unset=switch.ending())
        except NvpError as error:
            why = f"{why}, but {error}"
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


def _verdict(beside: Mapping[str, Any] | None, judged: gating.Judged | None, champion: str) -> tuple[bool, str]:
    """Whether it errs less than who serves, in words."""
    if beside is None or beside["ensemble"] != champion:
        return False, "another ensemble has come into service since it was begun"
    if judged is None:
        return False, f"not compared with who serves: {beside['why']}"
    low, high = beside["less"]
    interval = "" if low is None else f", 95% of resamples {low:+.4f} to {high:+.4f} less"
    return judged.vrmse < judged.vrmse_over, f"{judged}{interval}"


def _figures(judged: gating.Judged | None) -> dict[str, float | str]:
    return {} if judged is None else {"vrmse_champion": judged.vrmse, "vrmse_in_service": judged.vrmse_over}


async def change(delivery: Delivery, system: System) -> Completion:
    """What the account says shall serve, or answer a share; better or by force, and warm before it does.

    Raises:
        UnknownModel, InvalidInput: there is no such ensemble, it is not of that domain, or not known to be better.
        NotReady: another change is under way, no voter runs, or one cannot load it.
        DeadlineExceeded, StoreUnavailable: a voter has not compiled it yet, or that is not known. Nothing has changed.
    """
    asked = body(delivery, ServiceChangeRequested)
    async with switching.alone(system, delivery, asked.domain) as switch:
        return await _change(delivery, asked, switch, system)


async def _change(
    delivery: Delivery, asked: ServiceChangeRequested, switch: switching.Switch, system: System
) -> Completion:
    account = delivery.account
    standing = await _standing(system, account, asked.domain)
    if standing.champion is None:
        raise registry.no_model(account, asked.domain, await registry.domains(system.redis, account))
    record = await _meant(account, asked, standing, system)
    if asked.share is not None and record.digest == standing.champion:
        raise InvalidInput(f"{record.digest} serves {asked.domain} already; a share is for one that does not")
    against = "" if asked.share is not None else await gating.refusal(system.redis, account, record.digest, standing)
    if against and not asked.force:
        raise InvalidInput(f"{against}; {gating.REMEDY}")
    warmth = switching.Warmth()
    if asked.share != 0:
        warmth = await _warmed(delivery, record, switch, force=asked.force)
        against = "; ".join(filter(None, [against, NOBODY if warmth.nobody else ""]))
    said = Change(
        place="champion" if asked.share is None else "challenger",
        ensemble=record.digest,
        share=asked.share or 0.0,
        over=standing.champion,
        by=delivery.request_id,
        why=_asked_for(asked, against),
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
        unset=switch.ending(),
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
    """Who serves now."""
    return (await registry.service_of(system.redis, account, domain)).at()


async def _warmed(
    delivery: Delivery, record: EnsembleRecord, switch: switching.Switch, *, force: bool = False
) -> switching.Warmth:
    """Who has it compiled: every voter that runs, or with ``force`` as many as did, were it none.

    Raises:
        NotReady: no voter of it runs, or one cannot load it.
        DeadlineExceeded: a voter has not yet.
        StoreUnavailable: that is not known.
    """
    limit_s = min(switching.WAIT_S, max(delivery.remaining_s - TO_SPARE_S, 0.0))
    try:
        warmth = await switching.warmed(switch, record, limit_s=limit_s)
    except RedisError as error:
        raise StoreUnavailable(f"who has {record.digest} compiled is not known ({error}); ask again") from error
    if warmth.broken:
        raise NotReady("; ".join(f"{worker} cannot load it: {why}" for worker, why in warmth.broken.items()))
    if warmth.nobody and not force:
        raise NotReady(f"{NOBODY}, so nothing is compiled; see `nvp status`, or use `force`")
    if warmth.cold and not force:
        raise DeadlineExceeded(
            f"{', '.join(warmth.cold)} had not compiled it after {limit_s:.3g} s; ask again, "
            "for what is compiled is kept, or use `force`"
        )
    return warmth


def _asked_for(asked: ServiceChangeRequested, against: str) -> str:
    """Why, for the graph: what spoke against it comes first, and stays."""
    forced = f" by force, though {against}" if against else ""
    return f"asked for{forced}{': ' + asked.reason if asked.reason else ''}"[:500]
