"""The workers: each heard of lately, ready, and on a clock like the stream server's."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING

from nvp_agentkit.cli import deployment
from nvp_agentkit.cli.doctor import streams
from nvp_agentkit.cli.doctor.finding import Finding, broken, ok, warning

if TYPE_CHECKING:
    from redis.asyncio import Redis

    from nvp_agentkit.streams.health import WorkerState

MISSED_S = 6.0  # two heartbeats and a little


async def findings(redis: Redis) -> list[Finding]:
    from nvp_agentkit.streams.health import workers

    seen = await workers(redis)
    seconds, microseconds = await redis.time()
    server_s = seconds + microseconds / 1e6
    return [*(worker(one, server_s) for one in seen), *missing(one.name for one in seen)]


def worker(seen: WorkerState, server_s: float) -> Finding:
    """A worker that said something lately. ``server_s`` is the stream server's time, Unix seconds."""
    name, look = seen.name, f"`nvp logs {seen.name}`"
    ahead_s = seen.at_ms / 1000 - (server_s - seen.age_s)
    ahead = streams.clock(ahead_s, name=name, whose=f"on {seen.instance} the", than="the stream server's")
    if ahead.state == "broken":
        return ahead
    if seen.age_s > MISSED_S:
        return warning(name, f"silent for {seen.age_s:.0f} s: hung, or its machine is too busy", look)
    if seen.state != "ready":
        return warning(name, f"{seen.state} {seen.detail}".strip(), f"wait for it, or see {look}")
    return ahead if ahead.state == "warning" else ok(name, f"ready, {seen.detail}".strip(", "))


def missing(seen: Iterable[str]) -> Iterator[Finding]:
    for name in sorted(set(deployment.WORKERS) - set(seen)):
        yield broken(name, "does not run", f"see `nvp logs {name}`; `nvp up` and `nvp worker {name}` start it")
