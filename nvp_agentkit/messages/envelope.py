"""The envelope: a CloudEvents 1.0 event, structured JSON, in one stream field named ``event``.

Writers are strict (unknown keys are refused when an `Event` is built), readers are lenient (`decode`
ignores optional keys it does not know), so ``.v1`` can gain fields without breaking anybody.
"""

from __future__ import annotations

import uuid
from datetime import UTC, datetime
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError

from nvp_agentkit.errors import InvalidMessage
from nvp_agentkit.messages import facts, jobs, predictions, service
from nvp_agentkit.messages.values import Payload

FIELD = b"event"
MAX_EVENT_BYTES = 4 * 1024 * 1024
MAX_ID = 128  # characters

TYPES: dict[str, type[Payload]] = {
    "nvp.prediction.requested.v1": predictions.PredictionRequested,
    "nvp.prediction.completed.v1": predictions.PredictionCompleted,
    "nvp.prediction.certified.v1": predictions.PredictionCertified,
    "nvp.prediction.abstained.v1": predictions.PredictionAbstained,
    "nvp.prediction.refused.v1": predictions.PredictionRefused,
    "nvp.vote.cast.v1": predictions.VoteCast,
    "nvp.job.requested.v1": jobs.JobRequested,
    "nvp.job.cancel_requested.v1": jobs.JobCancelRequested,
    "nvp.job.progressed.v1": jobs.JobProgressed,
    "nvp.job.completed.v1": jobs.JobCompleted,
    "nvp.job.refused.v1": jobs.JobRefused,
    "nvp.job.suspended.v1": jobs.JobSuspended,
    "nvp.job.failed.v1": jobs.JobFailed,
    "nvp.service.change_requested.v1": service.ServiceChangeRequested,
    "nvp.service.changed.v1": service.ServiceChanged,
    "nvp.service.refused.v1": service.ServiceChangeRefused,
    "nvp.lineage.recorded.v1": facts.LineageRecorded,
}
TYPE_OF = {payload: name for name, payload in TYPES.items()}


def _zoned(at: datetime) -> datetime:
    if at.tzinfo is None:
        raise ValueError(f"{at.isoformat()} has no time zone; write it as RFC 3339 with Z or an offset")
    return at


Instant = Annotated[datetime, AfterValidator(_zoned)]


class Event(BaseModel):
    """A CloudEvent. Ours are the lower-case extension attributes at the end."""

    model_config = ConfigDict(frozen=True, extra="forbid", defer_build=True)

    specversion: Literal["1.0"] = "1.0"
    id: str = Field(min_length=1, max_length=MAX_ID)
    source: str = Field(min_length=1, max_length=256)
    type: str = Field(max_length=128)
    subject: str | None = Field(None, max_length=256)
    time: Instant
    datacontenttype: Literal["application/json"] = "application/json"
    dataschema: str | None = None
    traceparent: str | None = Field(None, max_length=128)
    replyto: str | None = Field(None, max_length=MAX_ID, description="id of the request this answers")
    deadline: Instant | None = Field(None, description="after this the answer is worth nothing")
    budgetmj: Annotated[str, Field(pattern=r"^[1-9][0-9]{0,15}$")] | None = Field(
        None, description="millijoules the sender allows, a decimal string"
    )
    data: dict[str, Any]

    @property
    def payload(self) -> Payload:
        """``data`` as its payload class, unknown optional fields ignored.

        Raises:
            InvalidMessage: unknown type, or data that does not fit it.
        """
        cls = TYPES.get(self.type)
        if cls is None:
            raise InvalidMessage(f"unknown event type {self.type!r}; known: {', '.join(sorted(TYPES))}")
        try:
            return cls.model_validate(self.data, extra="ignore")
        except ValidationError as error:
            raise InvalidMessage(f"{self.type}: {_first(error)}") from error

    @property
    def budget_mj(self) -> int | None:
        return None if self.budgetmj is None else int(self.budgetmj)

    def encode(self) -> bytes:
        return self.model_dump_json(exclude_none=True).encode()


def new_event(
    payload: Payload,
    *,
    source: str,
    id: str | None = None,
    subject: str | None = None,
    replyto: str | None = None,
    deadline: datetime | None = None,
    budget_mj: int | None = None,
    traceparent: str | None = None,
) -> Event:
    """Wrap ``payload``. An answer's id follows from its request (`reply_id`), so twice is once."""
    kind = TYPE_OF[type(payload)]
    if id is None:
        id = str(uuid.uuid4()) if replyto is None else reply_id(replyto, kind)
    return Event(
        id=id,
        source=source,
        type=kind,
        subject=subject,
        time=datetime.now(UTC),
        dataschema=schema_uri(kind),
        traceparent=traceparent,
        replyto=replyto,
        deadline=deadline,
        budgetmj=None if budget_mj is None else str(budget_mj),
        data=payload.model_dump(mode="json", exclude_none=True),
    )


def schema_uri(name: str) -> str:
    """What a published schema is called, in its ``$id`` and in an event's ``dataschema``.

    CloudEvents asks for an absolute URI there: the official JavaScript SDK refused events with a path.
    """
    return f"urn:nvp:schema:{name}"


def reply_id(request_id: str, kind: str) -> str:
    """The id of the answer of ``kind`` to a request: the same each time it is computed."""
    return str(uuid.uuid5(uuid.NAMESPACE_URL, f"nvp:{request_id}:{kind}"))


def decode(raw: bytes | str) -> Event:
    """Read an event, ignoring attributes it does not know.

    Raises:
        InvalidMessage: no JSON, no CloudEvent, too large, or a naive timestamp.
    """
    if len(raw) > MAX_EVENT_BYTES:
        raise InvalidMessage(f"event of {len(raw)} bytes, limit {MAX_EVENT_BYTES}; send arrays by reference")
    try:
        return Event.model_validate_json(raw, extra="ignore")
    except ValidationError as error:
        raise InvalidMessage(f"not a CloudEvents 1.0 event: {_first(error)}") from error


def _first(error: ValidationError) -> str:
    first = error.errors(include_url=False)[0]
    where = ".".join(str(part) for part in first["loc"]) or "event"
    return f"{where}: {first['msg']}"
