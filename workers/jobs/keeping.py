"""Putting away what a job has made, and saying that it is done."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import structlog
from numpy.typing import NDArray

from nvp_agentkit.errors import ResultNotKept, StoreUnavailable
from nvp_agentkit.messages import ArrayRef, JobCompleted, ObjectRef
from nvp_agentkit.streams import Completion, Delivery

from .. import facts
from ..system import System

SAFETENSORS = "application/vnd.safetensors"
KEEP_WAITS_S = (0.5, 1.0, 2.0, 4.0, 8.0)
Ref = TypeVar("Ref", ObjectRef, ArrayRef)
log = structlog.get_logger()


async def file(path: Path, system: System) -> ObjectRef:
    """The file ``path``, kept."""

    async def put() -> ObjectRef:
        with path.open("rb") as opened:
            return await system.artifacts.put_file(opened, SAFETENSORS)

    return await _kept(put)


async def array(values: NDArray[np.generic], system: System, units: str = "1") -> ArrayRef:
    """``values`` as float32, kept."""
    return await _kept(partial(system.artifacts.put_array, values.astype(np.float32), units))


async def document(data: bytes, system: System) -> ObjectRef:
    """JSON, kept."""
    return await _kept(partial(system.artifacts.put, data, "application/json"))


async def _kept(put: Callable[[], Awaitable[Ref]]) -> Ref:
    """Put away what the child made, with patience: it was paid for, and a new attempt would be paid for again.

    Raises:
        ResultNotKept: the artifact store takes nothing, and would not after another such job either.
    """
    waits_s = iter(KEEP_WAITS_S)
    while True:
        try:
            return await put()
        except StoreUnavailable as error:
            wait_s = next(waits_s, None)
            if wait_s is None:
                raise ResultNotKept(f"done, but the result cannot be kept: {error}") from error
            log.warning("result not kept yet", reason=str(error))
        await asyncio.sleep(wait_s)


def completed(
    delivery: Delivery,
    reply: JobCompleted,
    run: facts.RunFacts,
    system: System,
    **effects: Any,
) -> Completion:
    """The job's last word, its facts, and more ``effects``."""
    return Completion(
        replies=(system.event(reply, delivery, reply=True),),
        facts=(system.fact(run.bundle(), delivery),),
        **effects,
    )
