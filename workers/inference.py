"""The champion: answers single requests, and votes as ``voter-0`` on those that want a quorum."""

from __future__ import annotations

import asyncio
from functools import partial

from nvp_agentkit.artifacts import inline_array
from nvp_agentkit.errors import InvalidInput
from nvp_agentkit.messages import PredictionCompleted, PredictionRequested
from nvp_agentkit.messages.values import INLINE_BYTES
from nvp_agentkit.settings import VOTERS
from nvp_agentkit.streams.completion import Completion
from nvp_agentkit.streams.delivery import Delivery

from . import facts, joules, refusals, shadow
from .process import HANDS, Role, run_roles
from .requests import body, field_of, log_variance_units, units_of
from .serving.forecasting import Answering, ModelHost
from .serving.resolving import Served
from .serving.same_question import question, remembered
from .system import System, deadline_of

VOTER = VOTERS[0]


async def answer(delivery: Delivery, models: ModelHost, system: System) -> Completion:
    """One request, one answer: a forecast, or the one that the same question had before."""
    request = body(delivery, PredictionRequested)
    if request.assurance != "single":
        raise InvalidInput("the request asks for a quorum, which forms on the stream `ensemble`: publish it there")
    served = await models.who.single(delivery, request)
    units = units_of(request, served.record)

    async def forecast() -> PredictionCompleted:
        return await _forecast(delivery, request, served, units, models, system)

    asked = None
    if isinstance(served, Served):
        asked = question(request, ensemble=served.record.digest, model_id=served.member.model_id, units=units)
    reply = await (models.questions.once(delivery, asked, forecast) if asked else forecast())
    if reply.cached:
        await joules.close_earlier(system, delivery, part=VOTER)
    told = remembered(asked, delivery.request_id) if asked and not reply.cached else ()
    fact = facts.single_answer(delivery, request, reply)
    reply = await _as_asked(request, reply, system)
    event, recorded = system.event(reply, delivery, reply=True), system.fact(fact, delivery)
    return refusals.final(delivery.request_id, delivery.deadline, event, recorded)._replace(fields=told)


async def _forecast(
    delivery: Delivery, request: PredictionRequested, served: Answering, units: str, models: ModelHost, system: System
) -> PredictionCompleted:  # fmt: skip
    """The computation, paid for."""
    frames = await field_of(request, system)
    async with joules.window(system, delivery, part=VOTER, parts=1) as energy:
        expected_mj = await models.cost_mj(served, frames, deadline=deadline_of(delivery))
        energy.afford(expected_mj, f"a forecast of {frames.shape[-2]}x{frames.shape[-1]}")
        prediction = await models.predict(
            served, frames, deadline=deadline_of(delivery), alone=delivery.tried_before, on_cost=energy.spent
        )
        reading = energy.charge(prediction.cost)
        mean = await system.artifacts.put_array(prediction.mean, units)
        log_var = await system.artifacts.put_array(prediction.log_var, log_variance_units(units))
    return PredictionCompleted(
        request_id=delivery.request_id,
        model_id=prediction.model_id,
        mean=mean,
        log_var=log_var,
        energy=reading,
        ood=prediction.ood,
        widths=prediction.widths,
    )


async def _as_asked(request: PredictionRequested, reply: PredictionCompleted, system: System) -> PredictionCompleted:
    """With the arrays themselves where that was asked for and they are small: the asker may not reach the artifacts."""
    if not request.inline_answer or reply.mean.nbytes > INLINE_BYTES:
        return reply
    maps = {"mean": reply.mean, "log_var": reply.log_var}
    inline = {name: inline_array(await system.artifacts.get_array(ref), ref.units) for name, ref in maps.items()}
    return reply.model_copy(update=inline)


async def serve(system: System, stop: asyncio.Event) -> None:
    models = ModelHost(VOTER, system)
    reply = partial(answer, models=models, system=system)
    single = Role.each("predict", "inference", PredictionRequested, reply, refusals.prediction, hands=HANDS)
    roles = [single, shadow.role(models, system)]
    await run_roles(system, stop, roles, beside=[models.keep_ready(stop)], readiness=models.readiness)
