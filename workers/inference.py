"""The champion: answers single requests, and votes as ``voter-0`` on those that want a quorum."""

from __future__ import annotations

import asyncio
from functools import partial

import numpy as np
from numpy.typing import NDArray

from nvp_agentkit.artifacts import inline_array
from nvp_agentkit.errors import InvalidInput
from nvp_agentkit.messages import ArrayRef, PredictionCompleted, PredictionRequested
from nvp_agentkit.messages.values import INLINE_BYTES
from nvp_agentkit.settings import VOTERS
from nvp_agentkit.streams.completion import Completion
from nvp_agentkit.streams.delivery import Delivery

from . import facts, joules, refusals, shadow
from .forecasting import ModelHost
from .process import Role, run_roles
from .requests import body, field_of, log_variance_units, units_of
from .system import System, deadline_of

VOTER = VOTERS[0]


async def answer(delivery: Delivery, models: ModelHost, system: System) -> Completion:
    """One request, one forecast, one answer."""
    request = body(delivery, PredictionRequested)
    if request.assurance != "single":
        raise InvalidInput("the request asks for a quorum, which forms on the stream `ensemble`: publish it there")
    served = await models.resolve_single(delivery.account, request)
    units = units_of(request, served.record)
    frames = await field_of(request, system)
    async with joules.window(system, delivery, part=VOTER, parts=1) as energy:
        energy.afford(await models.cost_mj(served, frames), f"a forecast of {frames.shape[-2]}x{frames.shape[-1]}")
        prediction = await models.predict(
            served, frames, deadline=deadline_of(delivery), on_cost=energy.spent
        )
        reading = energy.charge(prediction.cost)
        mean = await system.artifacts.put_array(prediction.mean, units)
        log_var = await system.artifacts.put_array(prediction.log_var, log_variance_units(units))
    reply = PredictionCompleted(
        request_id=delivery.request_id,
        model_id=prediction.model_id,
        mean=_as_asked(request, mean, prediction.mean),
        log_var=_as_asked(request, log_var, prediction.log_var),
        energy=reading,
        ood=prediction.ood,
    )
    fact = facts.single_answer(
        delivery,
        domain=request.domain,
        field_digest=request.field.digest,
        value_digest=mean.digest,
        model_id=prediction.model_id,
        energy=reading,
    )
    told, recorded = system.event(reply, delivery, reply=True), system.fact(fact, delivery)
    return refusals.final(delivery.request_id, delivery.deadline, told, recorded)


def _as_asked(request: PredictionRequested, kept: ArrayRef, values: NDArray[np.float32]) -> ArrayRef:
    """The array itself where that was asked for and is small: its asker may have no way to the artifact store."""
    if not request.inline_answer or values.nbytes > INLINE_BYTES:
        return kept
    return inline_array(values, kept.units)


async def serve(system: System, stop: asyncio.Event) -> None:
    models = ModelHost(VOTER, system)
    single = Role.each(
        "predict", "inference", PredictionRequested, partial(answer, models=models, system=system), refusals.prediction
    )
    roles = [single, shadow.role(models, system)]
    await run_roles(system, stop, roles, beside=[models.keep_ready(stop)], readiness=models.readiness)
