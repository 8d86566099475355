"""The stream server: does it let us in, is it new enough, does it keep what it is given, does it know the time?"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any
from uuid import uuid4

from nvp_agentkit.cli.doctor.finding import Finding, broken, ok, warning
from nvp_agentkit.errors import InvalidInput

if TYPE_CHECKING:
    from redis.asyncio import Redis

NAME = "streams"
OLDEST = (6, 2)
SKEW_S, BROKEN_SKEW_S = 2.0, 30.0


async def findings(redis: Redis) -> list[Finding]:
    """What the server says of itself, and what it lets its owner do."""
    denied = await refused(redis)
    found = [permissions(denied)]
    if "info" not in denied:
        info: dict[str, Any] = await redis.info()
        found += [
            version(str(info["redis_version"]), info.get("valkey_version")),
            memory(str(info.get("maxmemory_policy", "noeviction")), int(info.get("maxmemory", 0))),
            persistence(bool(info.get("aof_enabled"))),
        ]
    if "time" not in denied:
        found.append(clock(await ahead_s(redis)))
    return found


def unreachable(error: Exception, *, ours: bool) -> Finding:
    """Why nobody let us in. ``error`` is a `StoreUnavailable`, or the `InvalidInput` of a URL that is none.

    ``ours``: the server is an embedded one.
    """
    from redis.exceptions import AuthenticationError, AuthorizationError

    if isinstance(error.__cause__, AuthenticationError | AuthorizationError):
        return broken(NAME, f"refused us: {error.__cause__}", "correct user and password in NVP_REDIS_URL")
    what, _, remedy = str(error).partition("; ")
    if isinstance(error, InvalidInput):
        return broken(NAME, what, remedy)
    if ours:
        return broken(NAME, what, "see `nvp logs valkey`; `nvp down`, then `nvp up` start it anew")
    return broken(NAME, what, "start that server, or correct NVP_REDIS_URL")


async def refused(redis: Redis) -> dict[str, str]:
    """Command -> why not, of those that workers and their owner need; tried on a key that does not last."""
    from redis.exceptions import NoPermissionError, OutOfMemoryError, ReadOnlyError

    key = f"nvp:{{doctor}}:{uuid4().hex}"
    tried: list[tuple[str | int, ...]] = [
        ("xadd", key, "*", "event", ""), ("expire", key, 60), ("xgroup", "create", key, "doctor", "0"),
        ("xreadgroup", "group", "doctor", "doctor", "count", 1, "streams", key, ">"),
        ("xpending", key, "doctor"), ("xack", key, "doctor", "0-1"), ("xdel", key, "0-1"),
        ("eval", "return 1", 1, key), ("script", "exists", "0" * 40), ("del", key),
        ("hset", key, "field", ""), ("expire", key, 60), ("del", key), ("zadd", key, 0, "member"), ("del", key),
        ("scan", 0, "match", "nvp:{doctor}:*"), ("acl", "getuser", "default"), ("info",), ("time",),
    ]  # fmt: skip
    pipe = redis.pipeline(transaction=False)
    for command in tried:
        pipe.execute_command(*command)
    answers = await pipe.execute(raise_on_error=False)
    return {
        str(command[0]): str(answer)
        for command, answer in zip(tried, answers, strict=True)
        if isinstance(answer, NoPermissionError | OutOfMemoryError | ReadOnlyError)
    }


def permissions(denied: dict[str, str]) -> Finding:
    """``denied`` as `refused` found it."""
    if not denied:
        return ok(NAME, "answers, and lets us do what workers need")
    reasons = " ".join(denied.values())
    if "read only" in reasons:
        return broken(NAME, "a replica, which cannot be written", "name its primary in NVP_REDIS_URL")
    if "maxmemory" in reasons:
        return broken(NAME, "its memory is full", "give it more `maxmemory`, or remove what is not needed")
    if set(denied) == {"acl"}:
        return warning(NAME, "our user may not make users, so `nvp account create` will fail", "allow it +acl")
    commands = " ".join(f"+{name}" for name in sorted(denied))
    return broken(NAME, f"our user may not {', '.join(sorted(denied))}", f"ACL SETUSER ... {commands} ~nvp:*")


def version(redis: str, valkey: str | None = None) -> Finding:
    """``redis`` is the version of Redis that the server is or claims to be compatible with."""
    name = f"Valkey {valkey}" if valkey else f"Redis {redis}"
    numbers = tuple(int(part) for part in redis.split(".")[:2] if part.isdigit())
    if numbers < OLDEST:
        return broken(f"{NAME} version", f"{name}; needed is 6.2", "install a newer server, or unset NVP_REDIS_URL")
    return ok(f"{NAME} version", name)


def memory(policy: str, most_bytes: int) -> Finding:
    """An eviction policy drops keys when memory ends: joules and votes among them."""
    if policy == "noeviction":
        return ok(f"{NAME} memory", "noeviction")
    remedy = "CONFIG SET maxmemory-policy noeviction, and the same in its configuration file"
    what = f"maxmemory-policy {policy} drops joules and votes when memory ends"
    if most_bytes:
        return broken(f"{NAME} memory", f"{what}, at {most_bytes / 1e6:.0f} MB", remedy)
    return warning(f"{NAME} memory", f"{what}; none is set", remedy)


def persistence(append_only: bool) -> Finding:
    if append_only:
        return ok(f"{NAME} on disk", "append-only file")
    return warning(f"{NAME} on disk", "no append-only file: a crash forgets jobs, votes and joules",
                   "CONFIG SET appendonly yes, and the same in its configuration file")  # fmt: skip


async def ahead_s(redis: Redis) -> float:
    """How far the server's clock is ahead of ours, seconds."""
    before = time.time()
    seconds, microseconds = await redis.time()
    return float(seconds + microseconds / 1e6 - (before + time.time()) / 2)


def clock(
    ahead_s: float, *, name: str = f"{NAME} clock", whose: str = "the stream server's", than: str = "this machine's"
) -> Finding:
    """Deadlines and expiries are compared across clocks."""
    what = f"{whose} clock is {abs(ahead_s):.1f} s {'ahead of' if ahead_s > 0 else 'behind'} {than}"
    if abs(ahead_s) > BROKEN_SKEW_S:
        return broken(name, what, "set both by NTP")
    if abs(ahead_s) > SKEW_S:
        return warning(name, what, "set both by NTP")
    return ok(name, f"within {SKEW_S:g} s of {than}")
