"""From a file to a store of forecasts: bring the file in, have it forecast, write what came."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from nvp_agentkit.arrayfile import existing
from nvp_agentkit.artifacts.content import uri_of
from nvp_agentkit.cli import payer
from nvp_agentkit.cli.hindcast.store import Begun, Place, Store
from nvp_agentkit.cli.screen import console, say
from nvp_agentkit.cli.watching import joules_so_far, watch
from nvp_agentkit.client import AgentClient
from nvp_agentkit.errors import InvalidInput, NvpError
from nvp_agentkit.messages import ArrayRef
from nvp_agentkit.messages.hindcasts import Manifest
from nvp_agentkit.messages.values import digest_of

if TYPE_CHECKING:
    from nvp_agentkit.messages import ImportSpec, JobCompleted
    from nvp_agentkit.settings import Settings


@dataclass(frozen=True)
class Wanted:
    """What was asked for; ``asked`` and ``meaning`` as `AgentClient.hindcast` and `import_file` take them."""

    path: Path
    array: str | None
    place: Place
    asked: dict[str, Any]
    meaning: dict[str, Any]
    budget_j: float
    deadline_s: float

    @classmethod
    def of(cls, data: str, out: Path, asked: dict[str, Any], meaning: dict[str, Any], **limits: float) -> Self:
        """Raises `InvalidInput` where no store could be written, before anything is asked for."""
        path, array = existing(data)
        if out.suffix != ".zarr":
            raise InvalidInput(f"{out}: a hindcast is written as Zarr; end its name with .zarr")
        if not out.parent.is_dir():
            raise InvalidInput(f"{out}: there is no folder {out.parent}; make it first")
        inner, outer = out.resolve(), path.resolve()
        if inner == outer or inner.is_relative_to(outer) or outer.is_relative_to(inner):
            raise InvalidInput(f"{out} and {path} lie in one another; write elsewhere")
        return cls(path, array, Place(out), asked, meaning, **limits)


@dataclass(frozen=True)
class Made:
    """What is there now. No ``job_id``, parts and skill where all was there, and nothing had to be asked for."""

    path: Path
    partial: Path
    begun: Begun
    parts: int | None = None
    parts_in_all: int | None = None
    skill: list[dict[str, Any]] = field(default_factory=list)
    stopped_by: str = "done"
    job_id: str | None = None
    mj: int = 0

    @property
    def whole(self) -> bool:
        return self.parts == self.parts_in_all


async def make(settings: Settings, account: str | None, wanted: Wanted) -> Made:
    """The whole way, or what is left of it.

    Raises:
        InvalidInput: something else lies where it would be written.
        NvpError: refused or failed; what was done stays, and the next call goes on from there.
    """
    async with AgentClient.connect(account or payer.only_account(settings), settings=settings) as nvp:
        asked = wanted.asked
        spec = await nvp.bring(wanted.path, domain=asked["domain"], array=wanted.array, **wanted.meaning)
        source = digest_of(spec.model_dump_json(exclude={"filename"}).encode())
        same = {"source": source, "domain": asked["domain"], "steps": asked["steps"], "every": asked["every"]}
        begun = wanted.place.begun()
        if begun is not None:
            begun.require(wanted.place.path, same, asked["model"])
            if wanted.place.path.exists():
                wanted.place.clear()
                return Made(wanted.place.path, wanted.place.partial, begun)
            asked = asked | {"model": begun.model}
        done = await _forecast(nvp, spec, source, asked, wanted)
        return await _written(nvp, done, source, wanted)


async def _forecast(
    nvp: AgentClient, spec: ImportSpec, source: str, asked: dict[str, Any], wanted: Wanted
) -> JobCompleted:
    """Two jobs: the file as a dataset, which is not made twice within an hour, and the hindcast of it."""
    screen, name = console(stderr=True), f"import-{source[-32:]}"
    brought = await watch(await nvp.submit(spec, wanted.budget_j, wanted.deadline_s, name=name), screen, joules_so_far)
    if brought.dataset is None:
        raise NvpError(f"job {brought.job_id} ended without a dataset")
    job = await nvp.hindcast(brought.dataset, budget_j=wanted.budget_j, deadline_s=wanted.deadline_s, **asked)
    try:
        return await watch(job, screen, joules_so_far)
    except asyncio.CancelledError:
        say(screen, f"interrupted; job {job.id} goes on: the same command follows it, `nvp jobs cancel` ends it")
        raise


async def _written(nvp: AgentClient, done: JobCompleted, source: str, wanted: Wanted) -> Made:
    if done.manifest is None:
        raise NvpError(f"job {done.job_id} ended without a manifest")
    manifest = Manifest.model_validate_json(await nvp.artifacts.get(done.manifest))
    begun = Begun.of(manifest, source)
    store = await asyncio.to_thread(Store.open, wanted.place, manifest, begun)
    for number in range(store.parts, len(manifest.parts)):
        part, place = manifest.parts[number], manifest.place(number)
        shape = (place.size, manifest.steps, manifest.height, manifest.width)
        mean, std = [
            await nvp.artifacts.get_array(ArrayRef(shape=shape, digest=digest, uri=uri_of(digest)))
            for digest in (part.mean, part.std)
        ]
        await asyncio.to_thread(store.add, number, mean, std)
    if manifest.done:
        await asyncio.to_thread(store.finish)
    skill = [one._asdict() | {"over_persistence": one.over_persistence, "over_best": one.over_best}
             for one in manifest.skill()]  # fmt: skip
    return Made(
        wanted.place.path, wanted.place.partial, begun, len(manifest.parts), manifest.parts_in_all, skill,
        str(done.summary["stopped_by"]), done.job_id, done.energy.mj,
    )  # fmt: skip
