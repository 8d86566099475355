"""Server-side functions: the ``.lua`` files beside this module."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from functools import cache
from importlib.resources import files
from typing import Any

from redis.asyncio import Redis
from redis.exceptions import NoScriptError, ResponseError

Call = tuple[Sequence[str], Sequence[str | bytes | int]]


@cache
def _source(name: str) -> tuple[str, str]:
    text = files("nvp_agentkit.streams").joinpath("lua", f"{name}.lua").read_text(encoding="utf-8")
    return text, hashlib.sha1(text.encode(), usedforsecurity=False).hexdigest()


async def call_many(redis: Redis, name: str, calls: Sequence[Call]) -> list[Any]:
    """Run function ``name`` once per (keys, arguments), in one round trip; an error stands in its place.

    A server that does not know it (new, restarted, failed over, flushed) is told, and asked once more what it refused.
    """
    text, sha = _source(name)
    results = await _run(redis, sha, calls)
    unknown = [place for place, result in enumerate(results) if isinstance(result, NoScriptError)]
    if unknown:
        await redis.script_load(text)
        for place, result in zip(unknown, await _run(redis, sha, [calls[place] for place in unknown]), strict=True):
            results[place] = result
    return results


async def _run(redis: Redis, sha: str, calls: Sequence[Call]) -> list[Any]:
    if len(calls) == 1:
        ((keys, args),) = calls
        try:
            return [await redis.evalsha(sha, len(keys), *keys, *args)]
        except ResponseError as error:
            return [error]
    if not calls:
        return []
    pipe = redis.pipeline(transaction=False)
    for keys, args in calls:
        pipe.evalsha(sha, len(keys), *keys, *args)
    return list(await pipe.execute(raise_on_error=False))


async def call(redis: Redis, name: str, keys: Sequence[str], args: Sequence[str | bytes | int]) -> Any:
    """Run function ``name`` once; an error raises."""
    (result,) = await call_many(redis, name, [(keys, args)])
    if isinstance(result, Exception):
        raise result
    return result
