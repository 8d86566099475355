"""The published contract: event payloads and their CloudEvents envelope."""

from nvp_agentkit.messages.envelope import TYPES, Event, decode, new_event, reply_id
from nvp_agentkit.messages.facts import EdgeFact, LineageRecorded, NodeFact
from nvp_agentkit.messages.jobs import (
    STARTER,
    CheckSpec,
    DatasetSpec,
    EvaluateSpec,
    ForecasterScore,
    HindcastSpec,
    ImportSpec,
    JobCancelRequested,
    JobCompleted,
    JobFailed,
    JobProgressed,
    JobRefused,
    JobRequested,
    JobSpec,
    JobSuspended,
    JoinSpec,
    MemberReport,
    SimulateSpec,
    TrainSpec,
)
from nvp_agentkit.messages.predictions import (
    TRIVIAL,
    PredictionAbstained,
    PredictionCertified,
    PredictionCompleted,
    PredictionRefused,
    PredictionRequested,
    VoteCast,
)
from nvp_agentkit.messages.service import ServiceChanged, ServiceChangeRefused, ServiceChangeRequested
from nvp_agentkit.messages.values import (
    AccountName,
    ArrayRef,
    Digest,
    DomainName,
    Millijoules,
    ObjectRef,
    Payload,
    Reading,
)

__all__ = [
    "STARTER", "TRIVIAL", "TYPES", "AccountName", "ArrayRef", "CheckSpec", "DatasetSpec", "Digest", "DomainName",
    "EdgeFact", "EvaluateSpec", "Event", "ForecasterScore", "HindcastSpec", "ImportSpec", "JobCancelRequested",
    "JobCompleted", "JobFailed", "JobProgressed", "JobRefused", "JobRequested", "JobSpec", "JobSuspended", "JoinSpec",
    "LineageRecorded", "MemberReport", "Millijoules", "NodeFact", "ObjectRef", "Payload", "PredictionAbstained",
    "PredictionCertified", "PredictionCompleted", "PredictionRefused", "PredictionRequested", "Reading",
    "ServiceChangeRefused", "ServiceChangeRequested", "ServiceChanged", "SimulateSpec", "TrainSpec", "VoteCast",
    "decode", "new_event", "reply_id",
]
