"""Filling the atlas: a file of the user's, or an equation's trajectories in jobs of a few each."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from nvp_agentkit import __version__
from nvp_agentkit.arrayfile import existing
from nvp_agentkit.cli.atlas.session import Order
from nvp_agentkit.cli.options import SIMULATED
from nvp_agentkit.cli.screen import console, progress_bar
from nvp_agentkit.cli.watching import joules_so_far, watch
from nvp_agentkit.client.limits import said
from nvp_agentkit.energy.accounts import joules
from nvp_agentkit.errors import NvpError, UnknownDomain
from nvp_agentkit.lineage import catalogue
from nvp_agentkit.lineage.graph import Graph
from nvp_agentkit.lineage.nodes import asked
from nvp_agentkit.messages import DatasetSpec, JobCompleted, JobProgressed, JoinSpec, ObjectRef, SimulateSpec
from nvp_agentkit.reference_task import DOMAIN, FRAMES, PARTS, PINNED_ON, SIZE, Split
from nvp_agentkit.streams.connect import connect
from nvp_agentkit.streams.health import workers

if TYPE_CHECKING:
    from rich.console import Console
    from rich.progress import Progress, TaskID

    from nvp_agentkit.client import AgentClient
    from nvp_agentkit.settings import Settings

SHARD = 4  # trajectories a job: little is lost with one, and several machines find work
AHEAD = 2  # jobs a training worker has: the one it does and the next
DEADLINE_S = 86_400.0  # of one job, the waiting included


async def bring_in(order: Order, asked_for: str, domain: str, **meaning: Any) -> JobCompleted:
    """A file of the user's, FILE or FILE:ARRAY, as a dataset of ``domain``. ``meaning``: units, dt_s, dx_m.

    Raises:
        InvalidInput: there is no such file; said before anything starts.
    """
    path, array = existing(asked_for)
    async with order.client() as (nvp, _):
        job = await nvp.import_file(path, domain=domain, array=array, budget_j=order.budget_j, **meaning)
        return await watch(job, console(stderr=True), joules_so_far)


def shards(
    domain: str, trajectories: int, frames: int, size: int, seed: int, variant: str | None = None
) -> list[SimulateSpec]:
    """The jobs that make so many trajectories, each with a seed of its own that follows from ``seed``.

    Raises:
        UnknownDomain: no simulator of that name; said before anything starts.
    """
    if domain not in SIMULATED:
        raise UnknownDomain(f"no simulator for domain {domain!r}; known: {', '.join(SIMULATED)}")
    starts = range(0, trajectories, SHARD)
    return [
        said(
            SimulateSpec,
            domain=domain,
            variant=variant,
            trajectories=min(SHARD, trajectories - start),
            frames=frames,
            size=size,
            seed=_seed(seed, number),
        )
        for number, start in enumerate(starts)
    ]


def _seed(seed: int, number: int) -> int:
    """Shard 0 has ``seed`` itself; the others lie so far apart that two atlases share none."""
    if number == 0:
        return seed
    return int.from_bytes(hashlib.sha256(f"{seed}/{number}".encode()).digest()[:4]) >> 1


def reference() -> list[SimulateSpec]:
    """The jobs that make the reference task, a split each."""
    return [
        SimulateSpec(domain=DOMAIN, trajectories=part.trajectories, frames=FRAMES, size=SIZE, seed=part.seed)
        for part in PARTS.values()
    ]


def as_pinned(split: Split, ref: ObjectRef) -> str:
    """Whether the bytes of ``split`` are those that were pinned, in words."""
    if ref.digest == PARTS[split].digest:
        return "the pinned bytes"
    return f"not the pinned bytes, which are of {PINNED_ON}: compare with `python -m benchmarks atlas_reference`"


@dataclass(frozen=True)
class Made:
    """A whole dataset, the jobs it is made of, how many of these were done before, and what the others cost."""

    ref: ObjectRef
    jobs: int
    there: int
    mj: int


async def make(order: Order, specs: list[SimulateSpec]) -> Made:
    """All ``specs``, as one dataset. What the graph has already is not made again, what is under way is waited for.

    Raises:
        NvpError: jobs failed; the others have ended, and the next call goes on from there.
    """
    async with _made(order, specs, len(specs) + 1) as (work, refs):
        whole, there = refs[0], work.there
        if len(refs) > 1:
            whole = await work.once(said(JoinSpec, domain=specs[0].domain, parts=tuple(refs)))
        return Made(whole, len(specs), there, work.mj)


async def each(order: Order, specs: list[SimulateSpec]) -> list[ObjectRef]:
    """All ``specs``, a dataset each; otherwise as `make`."""
    async with _made(order, specs, len(specs)) as (_, refs):
        return refs


@asynccontextmanager
async def _made(order: Order, specs: list[SimulateSpec], jobs: int) -> AsyncIterator[tuple[_Work, list[ObjectRef]]]:
    """The datasets of ``specs``, in their order, and room for so many ``jobs`` in all."""
    screen = console(stderr=True)
    async with order.client(jobs) as (nvp, there), Graph.connect(there) as graph:
        await nvp.recorded()
        with progress_bar(screen) as bars:
            bar = bars.add_task("simulating", total=len(specs), told="")
            work = _Work(nvp, graph, order.budget_j, AHEAD * await _trainers(there), screen, bars, bar)
            refs = _all_done(await asyncio.gather(*map(work.once, specs), return_exceptions=True))
        yield work, refs


async def _trainers(settings: Settings) -> int:
    """How many workers take jobs; one that is not there yet counts as one."""
    redis = await connect(settings)
    try:
        return max(1, sum(one.name == "training" for one in await workers(redis)))
    finally:
        await redis.aclose()


def _all_done(ended: list[ObjectRef | BaseException]) -> list[ObjectRef]:
    for one in ended:
        if isinstance(one, BaseException):
            raise one
    return [one for one in ended if isinstance(one, ObjectRef)]


class _Work:
    """Jobs under way, on one bar; where nothing can be drawn, a line a job."""

    def __init__(
        self,
        nvp: AgentClient,
        graph: Graph,
        budget_j: float,
        at_once: int,
        screen: Console,
        bars: Progress,
        bar: TaskID,
    ) -> None:
        self.mj = 0
        self.there = 0  # done before
        self._nvp, self._graph, self._budget_j = nvp, graph, budget_j
        self._screen, self._bars, self._bar = screen, bars, bar
        self._free = asyncio.Semaphore(at_once)
        self._ended = 0
        self._under_way: dict[str, JobProgressed] = {}

    async def once(self, spec: DatasetSpec) -> ObjectRef:
        """The dataset that ``spec`` asks for: the one that was made of the same by this version, or a new one."""
        known = await catalogue.made(self._graph, spec, version=__version__)
        if known is None:
            return await self._done(spec)
        self.there += 1
        self._ended += 1
        self._draw()
        return known

    async def _done(self, spec: DatasetSpec) -> ObjectRef:
        async with self._free:
            job = await self._nvp.submit(spec, self._budget_j, DEADLINE_S, name=asked(spec).id)
            async for line in job:
                self._under_way[job.id] = line
                self._draw()
            ended = await job.result()
        if ended.dataset is None:
            raise NvpError(f"job {job.id} ended without a dataset")
        self._under_way.pop(job.id, None)
        self._ended, self.mj = self._ended + 1, self.mj + ended.energy.mj
        self._draw()
        if not self._screen.is_terminal:
            self._screen.print(f"   {spec.kind} {self._ended}: {joules(ended.energy.mj)} {ended.energy.method}")
        return ended.dataset

    def _draw(self) -> None:
        lines = self._under_way.values()
        running = sum(line.step / line.steps for line in lines if line.steps)
        used_j = (self.mj + sum(line.used_mj for line in lines)) / 1000
        self._bars.update(self._bar, completed=self._ended + running, told=f"{self._ended} jobs done, {used_j:.1f} J")
