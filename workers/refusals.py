"""How each kind of request is told no: the same code and words the client raises again."""

from __future__ import annotations

from datetime import datetime

from nvp_agentkit.errors import BudgetTooSmall, InvalidMessage, NvpError, StoreUnavailable
from nvp_agentkit.messages import Event, JobFailed, JobRefused, PredictionRefused, PredictionRequested
from nvp_agentkit.streams.completion import Completion
from nvp_agentkit.streams.delivery import Delivery

from . import facts
from .joules import REFUSALS
from .system import System

RETRY_AFTER_S = 5.0
DEADLINES = "deadlines"  # sorted set of the quorum requests that still wait for votes


def decided(request_id: str) -> str:
    """The marker of a request's one final answer: whoever sets it first has spoken, the others only acknowledge."""
    return f"decided:{request_id}"


def final(request_id: str, deadline: datetime | None, reply: Event, fact: Event) -> Completion:
    """The last word on a prediction: nothing else is said of it later, and no deadline is waited for any more."""
    return Completion(
        replies=(reply,),
        facts=(fact,),
        once=decided(request_id),
        until=deadline,
        removals=((DEADLINES, request_id),),
    )


def prediction(system: System, delivery: Delivery, error: NvpError) -> Completion:
    """`PredictionRefused`, once per request, and on record."""
    reply = PredictionRefused(
        request_id=delivery.request_id,
        code=error.code,
        detail=str(error),
        retry_after_s=RETRY_AFTER_S if isinstance(error, StoreUnavailable) else None,
    )
    fact = facts.refused(delivery, domain=_domain(delivery), reason=f"{error.code}: {error}")
    told, recorded = system.event(reply, delivery, reply=True), system.fact(fact, delivery)
    return final(delivery.request_id, delivery.deadline, told, recorded)


def _domain(delivery: Delivery) -> str | None:
    """The request's domain; None where its body is what cannot be read."""
    try:
        payload = delivery.payload
    except InvalidMessage:
        return None
    return payload.domain if isinstance(payload, PredictionRequested) else None


def job(system: System, delivery: Delivery, error: NvpError) -> Completion:
    """`JobRefused` where work never began, so that nothing was spent; `JobFailed` where it did and ended badly."""
    reply: JobFailed | JobRefused
    if isinstance(error, REFUSALS) and delivery.attempt == 1:
        needed_mj = error.needed_mj if isinstance(error, BudgetTooSmall) else None
        reply = JobRefused(job_id=delivery.request_id, code=error.code, detail=str(error), needed_mj=needed_mj)
    else:
        reply = JobFailed(job_id=delivery.request_id, code=error.code, detail=str(error))
    return Completion(replies=(system.event(reply, delivery, reply=True),))
