"""One example of every payload, each with its optional parts filled in."""

from __future__ import annotations

import pytest

from nvp_agentkit import messages
from nvp_agentkit.messages import Payload

DIGEST = "sha256:" + "5a" * 32
OBJECT = messages.ObjectRef(uri=f"nvp://{DIGEST}", digest=DIGEST, bytes=16_384)
ARRAY = messages.ArrayRef(shape=(2, 64, 64), units="J", digest=DIGEST, uri=OBJECT.uri)
READING = messages.Reading(mj=1200, lo_mj=600, hi_mj=2400, method="modelled", sensor="cpu-seconds", cpu_ms=300)
MEMBER = messages.MemberReport(
    voter="voter-0", model_id="m-0", model=OBJECT, parameters=10_000, seed=1, width=16, vrmse=0.2, skill=0.3, steps=400
)
SCORE = messages.ForecasterScore(
    name="advection", vrmse=0.2, vrmse_low=0.18, vrmse_high=0.23, h1=0.3, bands={"k<8": 0.1}, budget_error=0.01,
    coverage_90=0.88, spread_skill=0.9, cpu_s=0.002,
)
EXAMPLES: tuple[Payload, ...] = (
    messages.PredictionRequested(domain="plasma_physics", field=ARRAY, assurance="quorum"),
    messages.PredictionCompleted(request_id="r", model_id="m-0", mean=ARRAY, log_var=ARRAY, energy=READING),
    messages.PredictionCertified(
        request_id="r", mean=ARRAY, log_var=ARRAY, certificate=OBJECT, agreed=("voter-0", "voter-1"),
        missing=("voter-2",), models={"voter-0": "m-0", "voter-1": "m-1"}, energy=READING,
    ),
    messages.PredictionAbstained(request_id="r", reason="voters differ", votes={"voter-0": "dissents"}, energy=READING),
    messages.PredictionRefused(request_id="r", code="insufficient_joules", detail="5 J asked", retry_after_s=2.0),
    messages.VoteCast(
        request_id="r", request_digest=DIGEST, record=DIGEST, voter="voter-1", envelope="{}", energy=READING
    ),
    messages.JobRequested(spec=messages.TrainSpec(domain="plasma_physics", data=OBJECT)),
    messages.JobCancelRequested(job_id="j", reason="wrong data"),
    messages.JobProgressed(
        job_id="j", phase="training", step=10, steps=100, used_mj=5, granted_mj=50, method="modelled", loss=0.1,
        skill=-0.2, baseline="persistence", eta_s=3.5,
    ),
    messages.JobCompleted(
        job_id="j", kind="train", energy=READING, seconds=9.5, members=(MEMBER,), baselines={"persistence": 0.4},
        summary={"units": "J", "frames": 41, "coverage_90": 0.91}, scores=(SCORE,), arrays={"truth": ARRAY},
    ),
    messages.JobRefused(job_id="j", code="budget_too_small", detail="0.5 J asked, 20 J needed", needed_mj=20_000),
    messages.JobSuspended(job_id="j", reason="budget spent", energy=READING, checkpoint=OBJECT),
    messages.JobFailed(job_id="j", code="compute_failed", detail="the child died", energy=READING),
    messages.ServiceChangeRequested(domain="plasma_physics", model="@challenger", share=0.1, reason="looks good"),
    messages.ServiceChanged(
        request_id="r", domain="plasma_physics", champion=DIGEST, challenger=DIGEST, share=0.1, previous=DIGEST,
        warm=("inference@1",), cold=("shadow-1@1",),
    ),
    messages.ServiceChangeRefused(request_id="r", code="unknown_model", detail="no challenger"),
    messages.LineageRecorded(
        nodes=(messages.NodeFact(label="Run", id="run-1", properties={"kind": "train", "shape": [2, 64], "seed": 0}),),
        edges=(messages.EdgeFact(type="USED", from_label="Run", from_id="run-1", to_label="Config", to_id="c"),),
    ),
)  # fmt: skip


@pytest.fixture(params=EXAMPLES, ids=lambda payload: type(payload).__name__)
def payload(request: pytest.FixtureRequest) -> Payload:
    """One payload of each type in turn."""
    example: Payload = request.param
    return example


@pytest.fixture
def payloads() -> tuple[Payload, ...]:
    return EXAMPLES
