"""Requests of real size, and what a handler that computes nothing says and records of each."""

from __future__ import annotations

import base64
import hashlib
from datetime import UTC, datetime, timedelta

from nvp_agentkit.messages import (
    ArrayRef,
    Event,
    LineageRecorded,
    NodeFact,
    PredictionAbstained,
    PredictionRequested,
    new_event,
)

RAW = bytes(4 * 16)
FIELD = ArrayRef(
    shape=(4, 4), digest=f"sha256:{hashlib.sha256(RAW).hexdigest()}", inline=base64.b64encode(RAW).decode()
)


def request() -> Event:
    """A prediction request as clients send it, some 650 bytes."""
    payload = PredictionRequested(domain="plasma_physics", field=FIELD)
    deadline = datetime.now(UTC) + timedelta(hours=1)
    return new_event(payload, source="nvp:client:bench", deadline=deadline, budget_mj=5000)


def reply(event: Event) -> Event:
    """The answer to one."""
    return new_event(PredictionAbstained(request_id=event.id, reason="done"), source="worker", replyto=event.id)


def fact(event: Event) -> Event:
    """What is recorded of it."""
    facts = LineageRecorded(nodes=(NodeFact(label="Prediction", id=event.id, properties={"status": "done"}),))
    return new_event(facts, source="worker", subject=event.subject)
