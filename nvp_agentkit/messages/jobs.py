"""Work that takes a while: making data, taking in data, training."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from nvp_agentkit.messages.values import ArrayRef, DomainName, ObjectRef, Payload, Reading

STARTER = "starter"  # the parent that is nobody's and needs no training
MAX_PARTS = 512  # datasets joined at once; their digests stand in one text of the graph


class SimulateSpec(Payload):
    """Make sequences of ``domain`` from its equation, or from a ``variant`` of it."""

    kind: Literal["simulate"] = "simulate"
    domain: DomainName
    variant: str | None = Field(None, min_length=1, max_length=64, description="docs/domains.md; default: the first")
    trajectories: int = Field(12, ge=1, le=1024)
    frames: int = Field(41, ge=4, le=4096)
    size: int = Field(64, ge=16, le=1024)
    seed: int = Field(0, ge=0, lt=2**31)


class ImportSpec(Payload):
    """Read sequences from a file a user brought: npz, npy, HDF5, NetCDF or a zipped Zarr store; NaN is a mask."""

    kind: Literal["import"] = "import"
    domain: DomainName
    source: ObjectRef
    filename: str = Field(max_length=255)
    array: str | None = Field(None, max_length=128, description="which array of the file; default: the only one")
    units: str = Field("1", max_length=64, description="of one value; 1: those that the file names, if it does")
    dt_s: float | None = Field(None, gt=0, lt=1e12, description="seconds between frames, whatever the file says")
    dx_m: float | None = Field(None, gt=0, lt=1e12, description="metres between cells, whatever the file says")


class TrainSpec(Payload):
    """Train an ensemble (champion and members) on ``data`` until the budget is used or it is done.

    With a ``parent`` each member goes on from that ensemble's member of the same voter instead of fresh weights, or all
    from the one model that is called `STARTER`.
    """

    kind: Literal["train"] = "train"
    domain: DomainName
    data: ObjectRef
    members: int = Field(3, ge=1, le=7)
    seed: int = Field(0, ge=0, lt=2**31)
    steps: int | None = Field(
        None, ge=1, le=1_000_000, description="of all members in all, so that the budget changes no number; default: "
        "as many as it buys",
    )  # fmt: skip
    parent: str | None = Field(
        None,
        min_length=1,
        max_length=128,
        description="of this account: an ensemble's digest or its champion's id; or 'starter', which workers bring",
    )
    model: str | None = Field(
        None, min_length=1, max_length=64, description="a plug-in of the workers' (docs/extending.md); default: ours"
    )


class JoinSpec(Payload):
    """Put datasets of one process on one grid together: their trajectories, in the order given."""

    kind: Literal["join"] = "join"
    domain: DomainName
    parts: tuple[ObjectRef, ...] = Field(min_length=2, max_length=MAX_PARTS)


class EvaluateSpec(Payload):
    """Score every trivial forecaster on the held-out part of ``data``."""

    kind: Literal["evaluate"] = "evaluate"
    domain: DomainName
    data: ObjectRef


class CheckSpec(Payload):
    """Look whether every value of ``data`` is finite and no held-out frame is among those that teach."""

    kind: Literal["check"] = "check"
    domain: DomainName
    data: ObjectRef


class HindcastSpec(Payload):
    """Forecast ``steps`` frames ahead from every ``every``-th frame of ``data`` that has so many after it.

    Data, model, ``steps`` and ``every`` make the work: asked for again, it goes on from what is there.
    """

    kind: Literal["hindcast"] = "hindcast"
    domain: DomainName
    data: ObjectRef
    steps: int = Field(ge=1, le=1024)
    every: int = Field(1, ge=1, le=2**20)
    model: str | None = Field(
        None,
        min_length=1,
        max_length=128,
        description="a member's id, an ensemble's digest or an alias (docs/service.md); default: who serves",
    )
    partial: bool = Field(False, description="begin although the budget will not reach to the end")


DatasetSpec = SimulateSpec | ImportSpec | JoinSpec  # what makes a dataset
JobSpec = DatasetSpec | TrainSpec | EvaluateSpec | CheckSpec | HindcastSpec


class JobRequested(Payload):
    """One job. The envelope carries ``budgetmj`` (never absent) and ``deadline``."""

    spec: Annotated[JobSpec, Field(discriminator="kind")]


class JobCancelRequested(Payload):
    """A job of the same account is wanted no more. Where it waits it is answered, where it runs it stops.

    The answer is the job's own: refused or failed with the code `cancelled`, or completed where it was done before.
    This holds until its ``deadline``, which is best that of the job.
    """

    job_id: str = Field(min_length=1, max_length=128, description="the id of the event that asked for it")
    reason: str | None = Field(None, max_length=200)


class JobProgressed(Payload):
    """One line of a job's live story, on the job's own stream."""

    job_id: str
    phase: str
    step: int = Field(ge=0)
    steps: int | None = None
    used_mj: int = Field(ge=0)
    granted_mj: int = Field(ge=0)
    method: str
    loss: float | None = None
    skill: float | None = None
    baseline: str | None = None
    eta_s: float | None = None
    note: str | None = None


class MemberReport(Payload):
    """One trained member and how it does on held-out trajectories."""

    voter: str
    model_id: str
    model: ObjectRef
    parameters: int
    seed: int
    width: int
    vrmse: float
    skill: float
    steps: int


class ForecasterScore(Payload):
    """How one forecaster does on held-out data, one step ahead.

    ``vrmse_low`` and ``vrmse_high`` hold 95% of VRMSE's resamples and are not there where there is too little to draw
    from. ``bands``: nRMSE by wavenumber, where no cell is masked. ``coverage_90``: share of truth in the 90% interval
    that the forecaster claims. ``spread_skill``: claimed sigma over RMS error, 1 is honest. ``cpu_s``: of one forecast.
    """

    name: str = Field(max_length=64)
    vrmse: float
    vrmse_low: float | None = None
    vrmse_high: float | None = None
    h1: float
    bands: dict[str, float] = Field(default_factory=dict)
    budget_error: float
    coverage_90: float
    spread_skill: float
    cpu_s: float


class JobCompleted(Payload):
    """A job's result: a dataset for `simulate`, `import` and `join`, an ensemble for `train`, scores for `evaluate`, a
    manifest for `hindcast`.
    """

    job_id: str
    kind: str = Field(max_length=32, description="as in the request's `spec`, of which there may be more kinds later")
    energy: Reading
    seconds: float
    dataset: ObjectRef | None = None
    summary: dict[str, float | int | str] = Field(default_factory=dict)
    members: tuple[MemberReport, ...] = ()
    baselines: dict[str, float] = Field(default_factory=dict, description="name -> VRMSE on held-out trajectories")
    scores: tuple[ForecasterScore, ...] = ()
    arrays: dict[str, ArrayRef] = Field(default_factory=dict, description="maps to look at, by name")
    manifest: ObjectRef | None = Field(None, description="of a hindcast: where its forecasts lie (docs/hindcasts.md)")


class JobRefused(Payload):
    """Not started, and why; nothing was spent."""

    job_id: str
    code: str
    detail: str
    needed_mj: int | None = None
    retry_after_s: float | None = None


class JobSuspended(Payload):
    """Stopped before the end with its state kept: a top-up and a resume continue it."""

    job_id: str
    reason: str
    energy: Reading
    checkpoint: ObjectRef | None = None


class JobFailed(Payload):
    """Ended without a result; what was spent is charged."""

    job_id: str
    code: str
    detail: str
    energy: Reading | None = None
