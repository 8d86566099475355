"""Reading the atlas: what the graph and the datasets' own headers say."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nvp_agentkit.artifacts import Artifacts
from nvp_agentkit.cli.atlas.session import Order, stack
from nvp_agentkit.cli.screen import console
from nvp_agentkit.cli.watching import joules_so_far, watch
from nvp_agentkit.client.limits import said
from nvp_agentkit.client.nearest import Descriptors
from nvp_agentkit.errors import InvalidInput, MissingExtra
from nvp_agentkit.lineage import catalogue
from nvp_agentkit.lineage.catalogue import Entry
from nvp_agentkit.lineage.graph import Graph
from nvp_agentkit.lineage.walk import Thing
from nvp_agentkit.messages import ArrayRef, CheckSpec, JobCompleted, ObjectRef
from nvp_agentkit.settings import Settings


async def entries(settings: Settings) -> tuple[Entry, ...]:
    """All datasets, the newest first."""
    async with stack(settings) as there, Graph.connect(there) as graph:
        return await catalogue.entries(graph)


async def entry(settings: Settings, name: str) -> tuple[Entry, dict[str, Any], dict[str, float]]:
    """One dataset, what its own header says of its numbers, and their statistics."""
    async with stack(settings) as there, Graph.connect(there) as graph:
        found = await catalogue.find(graph, name)
        looks = await catalogue.looks(graph, found)
        statistics = {name: one["last"] for name, one in looks.items() if one["n"] == 1}
        return found, await meta(Artifacts.from_settings(there), found.ref), statistics


async def array_of(artifacts: Artifacts, series: Thing, shape: tuple[int, ...]) -> NDArray[np.float32]:
    """The values of a series, (..., -1) as ``shape`` says."""
    ref = ArrayRef(shape=(series["n"],), digest=series["digest"], uri=series["uri"])
    return np.asarray(await artifacts.get_array(ref), np.float32).reshape(shape)


async def meta(artifacts: Artifacts, ref: ObjectRef) -> dict[str, Any]:
    """What the numbers of a dataset mean, from the dataset itself; its digest is verified on the way."""
    with opened(await artifacts.local_path(ref)) as file:
        found: dict[str, Any] = json.loads(file.metadata()["nvp"])
    return found


def opened(path: Path) -> Any:
    """A dataset's file, of which only what is asked for is read.

    Raises:
        MissingExtra: safetensors is not installed.
    """
    try:
        from safetensors import safe_open
    except ImportError as error:
        raise MissingExtra.of("safetensors", extra="model") from error
    return safe_open(path, framework="numpy")


async def check(order: Order, name: str) -> tuple[Entry, JobCompleted]:
    """A dataset looked through: digest, values, split.

    Raises:
        DigestMismatch: other bytes lie where it was kept.
        InvalidField: a value that is none, or a frame that would both teach and judge.
    """
    async with order.client() as (nvp, there):
        async with Graph.connect(there) as graph:
            found = await catalogue.find(graph, name)
        await meta(Artifacts.from_settings(there), found.ref)
        job = await nvp.submit(said(CheckSpec, domain=found.domain, data=found.ref), order.budget_j)
        return found, await watch(job, console(stderr=True), joules_so_far)


async def like(settings: Settings, name: str, count: int) -> tuple[Entry, list[tuple[Entry, float]]]:
    """A dataset, and the others nearest by descriptor, with their distances; parts of wholes are left out.

    Raises:
        InvalidInput: it has no descriptor.
    """
    async with stack(settings) as there, Graph.connect(there) as graph:
        found = await catalogue.find(graph, name)
        known = await catalogue.descriptors(graph)
        if found.dataset.id not in known:
            raise InvalidInput(f"{found.dataset.id} has no descriptor; import or make it again")
        others = [
            one for one in await catalogue.entries(graph)
            if one.dataset.id in known and one.dataset.id != found.dataset.id and not one.part_of
        ]
        artifacts = Artifacts.from_settings(there)
        mine = await array_of(artifacts, known[found.dataset.id], (-1,))
        theirs = [await array_of(artifacts, known[one.dataset.id], (-1,)) for one in others]
    if not theirs:
        return found, []
    near = Descriptors(np.stack(theirs)).nearest(mine, count)
    return found, [(others[place], float(distance)) for place, distance in zip(*near, strict=True)]
