"""Dead letters: what no worker could use, with the reason and what was there."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from redis.asyncio import Redis

from nvp_agentkit.streams import names


@dataclass(frozen=True)
class DeadLetter:
    """One entry that was given up. ``raw`` are its own fields, cut after 64 KiB in all."""

    stream: str
    entry_id: str
    reason: str
    group: str
    worker: str
    at_ms: int
    raw: Mapping[bytes, bytes]


async def dead_letters(redis: Redis, account: str, suffix: str, *, count: int = 100) -> list[DeadLetter]:
    """The newest ``count`` dead letters of one stream, newest first. Some thousand are kept."""
    stream = names.key(account, suffix)
    found: Any = await redis.xrevrange(names.dead(stream), count=count)
    return [_letter(stream, fields) for _, fields in found]


def _letter(stream: str, fields: Mapping[bytes, bytes]) -> DeadLetter:
    def text(name: bytes) -> str:
        return fields[name].decode(errors="replace")

    raw = {name.removeprefix(b"raw:"): value for name, value in fields.items() if name.startswith(b"raw:")}
    return DeadLetter(stream, text(b"id"), text(b"reason"), text(b"group"), text(b"worker"), int(fields[b"at_ms"]), raw)
