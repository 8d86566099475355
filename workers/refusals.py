"""How each kind of request is told no: the same code and words the client raises again."""

from __future__ import annotations

from datetime import datetime
from typing import Literal

import structlog

from nvp_agentkit.errors import AccountFull, BudgetTooSmall, Cancelled, InvalidMessage, NvpError
from nvp_agentkit.messages import (
    Event,
    JobFailed,
    JobRefused,
    JobRequested,
    Payload,
    PredictionRefused,
    PredictionRequested,
    Reading,
)
from nvp_agentkit.streams import names
from nvp_agentkit.streams.completion import Completion
from nvp_agentkit.streams.delivery import Delivery

from . import facts
from .joules import REFUSALS
from .system import System

log = structlog.get_logger()
DEADLINES = "deadlines"  # sorted set of the quorum requests that still wait for votes


def final(request_id: str, deadline: datetime | None, reply: Event, *recorded: Event) -> Completion:
    """The last word on a prediction: nothing else is said of it later, and no deadline is waited for any more."""
    return Completion(
        replies=(reply,),
        facts=recorded,
        once=names.decided(request_id),
        until=deadline,
        removals=((DEADLINES, request_id),),
    )


def final_of_job(job_id: str, deadline: datetime | None, done: Completion) -> Completion:
    """``done`` as the last word on a job, whoever has it: a worker, or who takes it back while it waits."""
    return done._replace(once=names.decided(job_id), until=deadline)


def prediction(system: System, delivery: Delivery, error: NvpError) -> Completion:
    """`PredictionRefused`, once per request, and on record, unless the account is full (`_on_record`)."""
    reply = PredictionRefused(
        request_id=delivery.request_id,
        code=error.code,
        detail=str(error),
        retry_after_s=error.retry_after_s,
    )
    reason, told = f"{error.code}: {error}", system.event(reply, delivery, reply=True)
    recorded: tuple[Event, ...] = ()
    if _on_record(error):
        fact = facts.refused(delivery, domain=_domain(delivery), reason=reason, energy=used(error))
        recorded = (system.fact(fact, delivery),)
    return final(delivery.request_id, delivery.deadline, told, *recorded)


def _on_record(error: NvpError) -> bool:
    """Not what went past the door: the facts of a flood would shut it for honest work (docs/decisions/050)."""
    return not isinstance(error, AccountFull)


def _domain(delivery: Delivery) -> str | None:
    """The request's domain; None where its body is what cannot be read."""
    asked = _payload(delivery)
    return asked.domain if isinstance(asked, PredictionRequested) else None


def used(error: NvpError) -> Reading | None:
    """What was used before it came to that, as it was charged."""
    return error.energy if isinstance(error.energy, Reading) else None


def _payload(delivery: Delivery) -> Payload | None:
    try:
        return delivery.payload
    except InvalidMessage:
        return None


def job(system: System, delivery: Delivery, error: NvpError) -> Completion:
    """`JobRefused` where work never began, so that nothing was spent; `JobFailed` where it did and ended badly.

    Either is on record, unless the job cannot even be read, or the account is full (`_on_record`).
    """
    job_id, detail = delivery.request_id, str(error)
    log.info("job ends badly", code=error.code, reason=detail)
    energy = used(error)
    reply: JobFailed | JobRefused
    asked = _payload(delivery)
    found_first = isinstance(error, Cancelled) or not isinstance(asked, JobRequested)  # before anything is done
    never_began = delivery.attempt == 1 or found_first
    if isinstance(error, (*REFUSALS, AccountFull, Cancelled)) and never_began and energy is None:
        needed_mj = error.needed_mj if isinstance(error, BudgetTooSmall) else None
        later_s = error.retry_after_s
        reply = JobRefused(job_id=job_id, code=error.code, detail=detail, needed_mj=needed_mj, retry_after_s=later_s)
    else:
        reply = JobFailed(job_id=job_id, code=error.code, detail=detail, energy=energy)
    recorded: tuple[Event, ...] = ()
    if isinstance(asked, JobRequested) and _on_record(error):
        outcome: Literal["refused", "failed"] = "refused" if isinstance(reply, JobRefused) else "failed"
        reason = f"{error.code}: {detail}"
        fact = facts.ended_badly(delivery, system.name, asked.spec.kind, outcome, reason=reason, energy=energy)
        recorded = (system.fact(fact, delivery),)
    done = Completion(replies=(system.event(reply, delivery, reply=True),), facts=recorded)
    return final_of_job(job_id, delivery.deadline, done)
