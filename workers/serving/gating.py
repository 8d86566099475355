"""What lets an ensemble serve: that it was compared with who does, on data neither learnt there, and errs no more."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic import ValidationError
from redis.asyncio import Redis

from nvp_agentkit.ensemble.service import HASH, Standing
from nvp_agentkit.messages import Digest, Payload
from nvp_agentkit.streams import names

_FIELD = "judged:"  # begins a field of the account's hash: what an ensemble was compared with, by its digest
REMEDY = "`share` tries it on some requests, `force` has it serve all the same, on record"


class Judged(Payload):
    """VRMSE one step ahead of an ensemble's champion and of another's, on the same held-out trajectories."""

    ensemble: Digest
    vrmse: float
    over: Digest
    vrmse_over: float
    trajectories: int

    def __str__(self) -> str:
        held_out = "one held-out trajectory" if self.trajectories == 1 else f"{self.trajectories} held-out trajectories"
        return f"VRMSE {self.vrmse:.4f} against {self.vrmse_over:.4f} of who serves on {held_out}"

    def turned(self) -> Judged:
        """The same, seen from the other one."""
        return Judged(
            ensemble=self.over, vrmse=self.vrmse_over, over=self.ensemble, vrmse_over=self.vrmse,
            trajectories=self.trajectories,
        )  # fmt: skip


def judged(digest: str, beside: Mapping[str, Any] | None) -> Judged | None:
    """What the child found of ``digest`` beside another (`compute.operations.comparing`); None where it could not."""
    if beside is None or beside["why"]:
        return None
    return Judged(
        ensemble=digest,
        vrmse=beside["ours"],
        over=beside["ensemble"],
        vrmse_over=beside["theirs"],
        trajectories=beside["trajectories"],
    )


def known(found: Judged | None) -> tuple[tuple[str, str, str], ...]:
    """Hash fields by which it is known later."""
    return () if found is None else ((HASH, f"{_FIELD}{found.ensemble}", found.model_dump_json()),)


async def refusal(redis: Redis, account: str, digest: str, standing: Standing) -> str:
    """Why ``digest`` should not serve in place of who does; empty where nothing speaks against it.

    Who serves or served before it always may: going back needs no proof.
    """
    champion = standing.champion
    if champion is None or digest in (champion, standing.previous):
        return ""
    found = await _between(redis, account, digest, champion)
    if found is None:
        return f"{digest} was never compared with {champion}, which serves; train it on the same data, or from it"
    return f"{digest} errs more than who serves: {found}" if found.vrmse > found.vrmse_over else ""


async def _between(redis: Redis, account: str, digest: str, champion: str) -> Judged | None:
    """The comparison of the two, whichever was trained later."""
    both: Any = await redis.hmget(names.key(account, HASH), [f"{_FIELD}{digest}", f"{_FIELD}{champion}"])
    ours, theirs = (_read(raw) for raw in both)
    if ours is not None and ours.over == champion:
        return ours
    return theirs.turned() if theirs is not None and theirs.over == digest else None


def _read(raw: bytes | None) -> Judged | None:
    try:
        return None if raw is None else Judged.model_validate_json(raw, extra="ignore")
    except ValidationError:  # as good as none
        return None
