"""A member of the ensemble: answers the same request with its own model and signs what it says."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

from nvp_agentkit.ensemble import Signer, load_signer, make_vote, sign_vote
from nvp_agentkit.errors import InvalidInput, NvpError, UnknownModel
from nvp_agentkit.messages import Event, PredictionRequested, VoteCast
from nvp_agentkit.messages.predictions import names_ensemble
from nvp_agentkit.streams import AWAY
from nvp_agentkit.streams.completion import Completion
from nvp_agentkit.streams.delivery import Delivery
from nvp_agentkit.streams.handling import defect

from . import facts, joules, refusals
from .process import HANDS, Role, run_roles
from .requests import body, field_of, log_variance_units, units_of
from .serving.forecasting import ModelHost
from .serving.resolving import Served, voter_of
from .system import System, deadline_of

ABOUT_THE_REQUEST = joules.REFUSALS  # what every voter would say of it: no, and not a vote that failed


async def vote(delivery: Delivery, models: ModelHost, signer: Signer, system: System) -> Completion:
    """One request, one forward, one signed vote; a voter that cannot answer says so on the record."""
    request = body(delivery, PredictionRequested)
    if request.model is not None and not names_ensemble(request.model):
        raise InvalidInput("a quorum is of a whole ensemble: leave `model` away, or ask with assurance='single'")
    served = await models.who.vote(delivery, request)
    if served.record.rule is None:
        raise UnknownModel(f"the ensemble of {request.domain} has no rule to vote by; train at least 3 members")
    if served.member.voter != signer.name:
        return Completion()  # an ensemble that has no place for this voter
    try:
        cast, fact = await _answer(delivery, request, served, models, signer, system)
    except NvpError as error:
        if isinstance(error, ABOUT_THE_REQUEST) or error.retryable:
            raise
        return _failed(delivery, served, signer.name, system, error)
    except AWAY:
        raise
    except Exception as error:  # noqa: BLE001 - a defect is a vote that failed, which says why
        failed = defect(error, f"{delivery.account}/{delivery.request_id}")
        return _failed(delivery, served, signer.name, system, failed)
    return Completion(facts=(fact,), forwards=(("votes", cast),))


async def _answer(
    delivery: Delivery, request: PredictionRequested, served: Served, models: ModelHost, signer: Signer, system: System
) -> tuple[Event, Event]:
    units = units_of(request, served.record)
    frames = await field_of(request, system)
    async with joules.window(system, delivery, part=signer.name, parts=len(served.record.members)) as energy:
        with _its_own_trouble(served):
            expected_mj = await models.cost_mj(served, frames, deadline=deadline_of(delivery))
        energy.afford(expected_mj, f"a vote of {signer.name}")
        with _its_own_trouble(served):
            prediction = await models.predict(
                served, frames, deadline=deadline_of(delivery), alone=delivery.tried_before, on_cost=energy.spent
            )
            reading = energy.charge(prediction.cost)
            said = make_vote(
                served.record,
                signer.name,
                prediction.mean,
                refs=(
                    await system.artifacts.put_array(prediction.mean, units),
                    await system.artifacts.put_array(prediction.log_var, log_variance_units(units)),
                ),
                request_id=delivery.request_id,
                request_digest=request.field.digest,
                issued_at_ms=facts.now_ms(),
                mask=await models.mask(served.record),
            )
        envelope = sign_vote(said, signer)
        cast = _cast(delivery, served, signer.name, envelope=envelope.encode().decode(), energy=reading)
        fact = facts.cast_vote(delivery.account, said, envelope.signatures[0].sig, reading)
        return system.event(cast, delivery), system.fact(fact, delivery)


@contextmanager
def _its_own_trouble(served: Served) -> Iterator[None]:
    """What is wrong with one voter's model, or with what it says, is no fault of the request: others may answer it."""
    try:
        yield
    except ABOUT_THE_REQUEST as error:
        raise NvpError(f"{served.member.voter} cannot answer with {served.model_id}: {error}") from error


def _failed(delivery: Delivery, served: Served, voter: str, system: System, error: NvpError) -> Completion:
    cast = _cast(delivery, served, voter, failed=f"{error.code}: {error}", energy=refusals.used(error))
    return Completion(forwards=(("votes", system.event(cast, delivery)),))


def _cast(delivery: Delivery, served: Served, voter: str, **said: Any) -> VoteCast:
    request = body(delivery, PredictionRequested)
    return VoteCast(
        request_id=delivery.request_id,
        request_digest=request.field.digest,
        record=served.record.digest,
        keep_s=request.keep_s,
        voter=voter,
        **said,
    )


def refuse(system: System, delivery: Delivery, error: NvpError) -> Completion:
    """A refusal where every voter would refuse. One voter's own trouble is silence: the tally counts it missing."""
    return refusals.prediction(system, delivery, error) if isinstance(error, ABOUT_THE_REQUEST) else Completion()


def role(models: ModelHost, system: System) -> Role:
    """This voter's place on the ensemble streams."""
    signer = load_signer(system.settings.keys_dir, models.voter)
    return Role.each(
        "ensemble",
        models.voter,
        PredictionRequested,
        partial(vote, models=models, signer=signer, system=system),
        refuse,
        hands=HANDS,
    )


async def sit(models: ModelHost, system: System, stop: asyncio.Event) -> None:
    """Vote with these models until ``stop``."""
    await run_roles(
        system, stop, [role(models, system)], beside=[models.keep_ready(stop)], readiness=models.readiness
    )


async def serve(system: System, stop: asyncio.Event) -> None:
    await sit(ModelHost(voter_of(system.name), system), system, stop)
