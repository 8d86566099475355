"""Server-side functions: the ``.lua`` files beside this module."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from functools import cache
from importlib.resources import files
from typing import Any

from redis.asyncio import Redis

Call = tuple[Sequence[str], Sequence[str | bytes | int]]


@cache
def _source(name: str) -> tuple[str, str]:
    text = files("nvp_agentkit.streams").joinpath("lua", f"{name}.lua").read_text(encoding="utf-8")
    return text, hashlib.sha1(text.encode(), usedforsecurity=False).hexdigest()


async def call_many(redis: Redis, name: str, calls: Sequence[Call]) -> list[Any]:
    """Run function ``name`` once per (keys, arguments), in one round trip; an error stands in its place.

    SCRIPT LOAD rides along, so there is no NOSCRIPT to handle after a restart or a failover.
    """
    if not calls:
        return []
    text, sha = _source(name)
    pipe = redis.pipeline(transaction=False)
    pipe.script_load(text)
    for keys, args in calls:
        pipe.evalsha(sha, len(keys), *keys, *args)
    loaded, *results = await pipe.execute(raise_on_error=False)
    if isinstance(loaded, Exception):
        raise loaded
    return results


async def call(redis: Redis, name: str, keys: Sequence[str], args: Sequence[str | bytes | int]) -> Any:
    """Run function ``name`` once; an error raises."""
    (result,) = await call_many(redis, name, [(keys, args)])
    if isinstance(result, Exception):
        raise result
    return result
