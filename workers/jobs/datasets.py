"""Jobs on data: make it, take it in, join it, evaluate forecasts of it, check it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from nvp_agentkit.messages import (
    CheckSpec,
    EvaluateSpec,
    ForecasterScore,
    ImportSpec,
    JobCompleted,
    JoinSpec,
    SimulateSpec,
)
from nvp_agentkit.streams import Completion, Delivery

from .. import facts
from ..compute.front import Answer
from ..system import System
from . import keeping

OnData = SimulateSpec | ImportSpec | JoinSpec | EvaluateSpec | CheckSpec
OUT = "data.safetensors"  # what the child makes, in the job's scratch folder


async def parameters(spec: OnData, scratch: Path, system: System) -> dict[str, Any]:
    """What the operation needs, with every reference a local file."""
    asked = spec.model_dump(mode="json", exclude={"kind", "source", "data", "parts"})
    out = {"out": str(scratch / OUT)}
    match spec:
        case SimulateSpec():
            return asked | out
        case ImportSpec():
            path = scratch / "source"  # the name is the user's and touches no path; the first bytes say which reader
            path.symlink_to((await system.artifacts.local_path(spec.source)).resolve())
            return asked | out | {"path": str(path)}
        case JoinSpec():
            paths = [str((await system.artifacts.local_path(part)).resolve()) for part in spec.parts]
            return asked | out | {"paths": paths}
        case EvaluateSpec() | CheckSpec():
            return asked | {"path": str((await system.artifacts.local_path(spec.data)).resolve())}


async def keep(
    delivery: Delivery,
    spec: OnData,
    done: Answer,
    run: facts.RunFacts,
    told: Mapping[str, Any],
    out: Path,
    system: System,
) -> Completion:
    """Put away what the job made and record it. ``told``: what its answer says besides."""
    match spec:
        case SimulateSpec() | ImportSpec() | JoinSpec():
            return await _dataset(delivery, spec, done, run, told, out, system)
        case EvaluateSpec():
            return await _evaluation(delivery, spec, done, run, told, system)
        case CheckSpec():
            run.used(spec.data)
            return keeping.completed(delivery, JobCompleted(summary=done.values["about"], **told), run, system)


async def _dataset(
    delivery: Delivery,
    spec: SimulateSpec | ImportSpec | JoinSpec,
    done: Answer,
    run: facts.RunFacts,
    told: Mapping[str, Any],
    out: Path,
    system: System,
) -> Completion:
    about, meta = done.values["about"], done.values["meta"]
    ref = await keeping.file(out, system)
    sources = []
    match spec:
        case SimulateSpec():
            run.configured(meta["provenance"] | {"domain": spec.domain}, spec.seed)
        case ImportSpec():
            run.used(spec.source)
        case JoinSpec():
            sources = [run.used(part) for part in spec.parts]
    run.was_asked(spec)
    shape = (about["trajectories"], about["frames"], about["height"], about["width"])
    run.made_dataset(
        ref, sources, domain=spec.domain, units=about["units"], shape=shape, dt_s=meta["dt_s"], dx_m=meta["dx_m"],
        variant=about.get("variant"),
    )  # fmt: skip
    units = {"total": about["units"], "entropy": "nat", "spectrum": f"({about['units']})^2"}
    for name, array in zip(done.values["series"], done.arrays, strict=True):
        run.looked(name, await keeping.array(array, system), last=float(array.flat[-1]), unit=units.get(name, "1"))
    for name, value in done.values["statistics"].items():
        run.looked(name, None, last=value, unit=about["units"])
    return keeping.completed(delivery, JobCompleted(dataset=ref, summary=about, **told), run, system)


async def _evaluation(
    delivery: Delivery, spec: EvaluateSpec, done: Answer, run: facts.RunFacts, told: Mapping[str, Any], system: System
) -> Completion:
    values = done.values
    run.used(spec.data)
    scores = tuple(ForecasterScore(**score) for score in values["scores"])
    for score in scores:
        run.judged(score.name, {"vrmse": score.vrmse, "h1": score.h1})
    maps = {
        name: await keeping.array(array, system, values["about"]["units"])
        for name, array in zip(values["arrays"], done.arrays, strict=True)
    }
    reply = JobCompleted(
        scores=scores,
        baselines={score.name: score.vrmse for score in scores},
        arrays=maps,
        summary=values["about"],
        **told,
    )
    return keeping.completed(delivery, reply, run, system)
