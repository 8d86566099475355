"""What of a hindcast is done, put away part by part behind the fence of its work, where whoever goes on finds it."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Any

import structlog
from numpy.typing import NDArray
from pydantic import ValidationError

from nvp_agentkit.errors import Cancelled, InvalidInput, NvpError, UnknownName
from nvp_agentkit.messages import ObjectRef
from nvp_agentkit.messages.hindcasts import Manifest, Part
from nvp_agentkit.messages.values import canonical_json
from nvp_agentkit.streams import Delivery
from nvp_agentkit.streams.fences import begin, point

from ..patience import patiently
from ..system import System
from . import keeping

RESUMABLE_S = 7 * 86_400  # after the deadline of the job that did something last
log = structlog.get_logger()


@dataclass
class Parts:
    """One attempt at a work, under its fence.

    The arrays of a part are in the artifact store before a manifest names them, and the manifest before the pointer
    moves. A manifest that is still written names its attempt, so that nobody else has put the same bytes and it can be
    removed when the next one is there; the one that is handed out does not, and stays.
    """

    delivery: Delivery
    system: System
    fence: int
    manifest: Manifest
    _lies: ObjectRef | None = None  # what the pointer is at

    async def add(self, arrays: list[NDArray[Any]], sums: dict[str, Any], judged: int) -> None:
        """One more part is done.

        Raises:
            Cancelled: another attempt has begun, or another job does this work now.
            ResultNotKept: the artifact store takes nothing.
        """
        units = self.manifest.units
        mean, std = [(await keeping.array(one, self.system, units)).digest for one in arrays]
        before = self._lies
        self.manifest = _grown(self.manifest, Part(mean=mean, std=std), sums, judged)
        self._lies = await self._put(f"{self.delivery.request_id} {self.fence}")
        await self._point(self._lies)
        if before is not None:
            await self._remove(before)

    async def hand_out(self) -> ObjectRef:
        """The manifest as it is now, to stay."""
        return await self._put(None)

    async def _put(self, attempt: str | None) -> ObjectRef:
        said = self.manifest.model_copy(update={"attempt": attempt}).model_dump(mode="json", exclude_none=True)
        return await keeping.document(canonical_json(said), self.system)

    async def _point(self, ref: ObjectRef) -> None:
        at, work = ref.model_dump_json(), self.manifest.work
        move = partial(point, self.system.redis, self.delivery, self.fence, at, work, longer_s=RESUMABLE_S)
        if not await patiently(self.delivery, move, failed="part not pointed at yet"):
            await self._remove(ref)
            raise Cancelled("another worker has this job now, or another job does the same; follow that one")

    async def _remove(self, ref: ObjectRef) -> None:
        try:
            await self.system.artifacts.remove(ref)
        except NvpError as error:
            log.warning("manifest not removed", job=self.delivery.request_id, reason=str(error))


async def attempt(delivery: Delivery, fresh: Manifest, system: System) -> Parts:
    """Begin the work of ``fresh``, of which nothing is done yet, or go on from what is there."""
    fence, at = await begin(system.redis, delivery, fresh.work, longer_s=RESUMABLE_S)
    if at is None:
        return Parts(delivery, system, fence, fresh)
    ref = ObjectRef.model_validate_json(at)
    try:
        found = Manifest.model_validate_json(await system.artifacts.get(ref))
    except (UnknownName, InvalidInput, ValidationError) as error:
        log.warning("what was done of a hindcast is not found, it begins anew", work=fresh.work, reason=str(error))
        found = fresh
    return Parts(delivery, system, fence, found, ref)


def _grown(manifest: Manifest, part: Part, sums: dict[str, Any], judged: int) -> Manifest:
    parts = (*manifest.parts, part)
    if not sums["spread"]:
        return manifest.model_copy(update={"parts": parts})
    nothing = (0.0,) * manifest.steps
    missed = {name: _sum(manifest.missed.get(name, nothing), more) for name, more in sums["missed"].items()}
    spread = _sum(manifest.spread or nothing, sums["spread"])
    return manifest.model_copy(
        update={"parts": parts, "missed": missed, "spread": spread, "judged": manifest.judged + judged}
    )


def _sum(one: tuple[float, ...], other: list[float]) -> tuple[float, ...]:
    return tuple(a + b for a, b in zip(one, other, strict=True))
