"""What an asker publishes: the stream that a message of a plan belongs on, and its event."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from benchmarks.simulator.loop import START_S
from benchmarks.simulator.plan import Message
from benchmarks.simulator.work import FIELDS
from nvp_agentkit.messages import (
    Event,
    JobCancelRequested,
    JobRequested,
    PredictionAbstained,
    PredictionRequested,
    SimulateSpec,
    new_event,
)

SUFFIXES = {"predict": "predict", "job": "jobs", "quorum": "ensemble"}
Published = tuple[str, Event]


def asked(request_id: str, message: Message) -> Published:
    """A request, or what is said to be one."""
    assurance: Any = "quorum" if message.kind == "quorum" else "single"
    payload: Any = PredictionRequested(domain="plasma_physics", field=FIELDS[message.question], assurance=assurance)
    if message.kind == "job":
        payload = JobRequested(spec=SimulateSpec(domain="plasma_physics"))
    if message.fate == "strange":
        payload = PredictionAbstained(request_id=request_id, reason="this belongs on another stream")
    until = message.deadline_s and datetime.fromtimestamp(START_S + message.at_s + message.deadline_s, UTC)
    event = new_event(payload, source="asker", id=request_id, deadline=until or None, budget_mj=message.budget_mj)
    if message.fate == "garbled":
        event = event.model_copy(update={"specversion": "2.0"})
    return "urgent" if message.urgent else SUFFIXES[message.kind], event


def taken_back(request_id: str) -> Published:
    """Word that this job is wanted no more."""
    return "cancel", new_event(JobCancelRequested(job_id=request_id), source="asker", id=f"no-{request_id}")
