"""Compute children that get stuck: is their work still done once, and what hangs for ever ended and answered?

Two inference and two training workers with a lease of 5 s, real but for their children (`stuck_child`), are asked for a
forecast (a simulation) whose child holds the interpreter's lock for 10 s; then for one whose child is busy for 60 s
without a word, as a compilation is; then for one whose child hangs for ever. A second worker, idle meanwhile, would
take over what is not renewed. Runs are counted by what the children wrote down themselves.
``python -m benchmarks.heartbeat NAME`` is one of these workers.
"""

from __future__ import annotations

import asyncio
import sys
import tempfile
import time
from collections import Counter
from collections.abc import AsyncIterator, Collection
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
from redis.asyncio import Redis

from benchmarks.process_tree import environment
from benchmarks.stuck_child import Line
from benchmarks.verdict import BrokenError, Figure
from nvp_agentkit.artifacts import inline_array
from nvp_agentkit.embedded import children, lock, valkey
from nvp_agentkit.energy.ledger import Ledger
from nvp_agentkit.ensemble import init_keys
from nvp_agentkit.messages import (
    Event,
    JobCompleted,
    JobFailed,
    JobRefused,
    JobRequested,
    PredictionCompleted,
    PredictionRefused,
    PredictionRequested,
    SimulateSpec,
    new_event,
)
from nvp_agentkit.messages.envelope import TYPE_OF
from nvp_agentkit.settings import VOTERS, Settings, child_environment
from nvp_agentkit.streams import ReplyReader, names, publish, register
from nvp_agentkit.streams.health import TTL_S, workers
from nvp_agentkit.workers.compute import front
from nvp_agentkit.workers.main import run, serve_of

ACCOUNT, DOMAIN = "bench", "plasma_physics"
WORKERS = ("inference-1", "inference-2", "training-1", "training-2")
GROUPS = {"predict": "inference", "jobs": "training"}
BUDGET_MJ, LIMIT_MJ = 1_000_000, 100_000_000
READY_WITHIN_S, SOON_S = 60.0, 2.0
DONE = (PredictionCompleted, JobCompleted)
ANSWERS = (*DONE, PredictionRefused, JobRefused, JobFailed)


@dataclass(frozen=True)
class Plan:
    """Seconds: of the lease, of the lock held, of the silent computation, and to the deadline of what hangs."""

    lease_s: float = 5.0
    hold_s: int = 10
    busy_s: int = 60
    deadline_s: float = 20.0

    @property
    def tasks(self) -> dict[str, float]:
        """What a child is to do, and how soon."""
        return {f"hold-{self.hold_s}": 120.0, f"busy-{self.busy_s}": 180.0, "hang-0": self.deadline_s}


QUICK = Plan(lease_s=1.0, hold_s=3, busy_s=4, deadline_s=12.0)  # forecasts get 10 s, whatever their deadline


@dataclass
class Seen:
    """What was seen meanwhile, from outside."""

    answers: dict[tuple[str, str], str] = field(default_factory=dict)  # (stream, what) -> code of a refusal, or "done"
    late_s: list[float] = field(default_factory=list)  # answers to what hung, after their deadlines
    served_again_s: list[float] = field(default_factory=list)
    unrenewed_s: float = 0.0
    heartbeat_age_s: float = 0.0
    unready: set[str] = field(default_factory=set)
    deliveries: int = 0


def measure(*, quick: bool) -> dict[str, Figure]:
    """Quick: a lease of 1 s, and accordingly less to wait for."""
    plan = QUICK if quick else Plan()
    with tempfile.TemporaryDirectory(prefix="nvp-heartbeat-") as folder:
        seen, lines = asyncio.run(_measure(Path(folder), plan))
        left = len(lock.left_over(Path(folder)))
    runs = Counter((line.operation, line.what) for line in lines if line.silent_s is None)
    silent_s = [line.silent_s for line in lines if line.silent_s is not None and line.what.startswith("hold")]
    outcomes = Counter(seen.answers.values())
    return {
        "asked": Figure(2 * len(plan.tasks), "requests"),
        "runs": Figure(runs.total(), "runs"),
        "runs_beyond_the_first": Figure(sum(count - 1 for count in runs.values()), "runs", floor=0),
        "done": Figure(outcomes["done"], "requests", floor=4, higher_is_better=True),
        "ended_at_deadline": Figure(outcomes["deadline_exceeded"], "requests", floor=2, higher_is_better=True),
        "answered_after_deadline_s": Figure(_most(seen.late_s), "s", floor=SOON_S),
        "lock_held_s": Figure(min(silent_s, default=None), "s", floor=0.99 * plan.hold_s, higher_is_better=True),
        "lease_s": Figure(plan.lease_s, "s"),
        "lease_unrenewed_max_s": Figure(round(seen.unrenewed_s, 2), "s", floor=plan.lease_s),
        "deliveries_max": Figure(seen.deliveries, "times", floor=1),
        "heartbeat_age_max_s": Figure(round(seen.heartbeat_age_s, 2), "s", floor=TTL_S),
        "not_ready": Figure(len(seen.unready), "workers", floor=0),
        "served_again_max_s": Figure(_most(seen.served_again_s), "s"),
        "left_over": Figure(left, "processes", floor=0),
    }


def _most(seconds: Collection[float]) -> float | None:
    return round(max(seconds), 2) if seconds else None


async def _measure(folder: Path, plan: Plan) -> tuple[Seen, list[Line]]:
    seen = Seen()
    async with _stack(folder, plan) as redis:
        watching = asyncio.create_task(_watch(redis, seen))
        await asyncio.gather(*(_ask_all(redis, suffix, plan, seen) for suffix in GROUPS))
        watching.cancel()
        await asyncio.gather(watching, return_exceptions=True)
    return seen, Line.all_of(folder)


@asynccontextmanager
async def _stack(folder: Path, plan: Plan) -> AsyncIterator[Redis]:
    """A stream server and the workers, ready. All of them are gone at the end."""
    init_keys(folder / "keys", (*VOTERS, "tally"))
    server = await valkey.start(folder / "valkey", appendfsync="everysec")
    url = valkey.url(server)
    settings = Settings(data_dir=folder, redis_url=url, artifacts_url=str(folder / "artifacts"), lease_s=plan.lease_s)
    at = environment() | child_environment(settings) | {"PYTHONPATH": environment()["PYTHONPATH"]}
    started = []
    try:
        for name in WORKERS:
            command = [sys.executable, "-m", "benchmarks.heartbeat", name]
            started.append(children.launch(command, env=at, log=folder / f"{name}.log", folder=folder))
        async with Redis.from_url(url, socket_timeout=None) as redis:
            await register(redis, ACCOUNT, owner="benchmarks")
            await Ledger(redis).create(ACCOUNT, LIMIT_MJ)
            await _ready(redis, folder)
            yield redis
    finally:
        await asyncio.gather(*(children.end(process, grace_s=10.0) for process in started))
        await children.end(server.process, grace_s=0)


async def _ready(redis: Redis, folder: Path) -> None:
    until = time.monotonic() + READY_WITHIN_S
    while len([one for one in await workers(redis) if one.state == "ready"]) < len(WORKERS):
        if time.monotonic() > until:
            said = "\n".join((folder / f"{name}.log").read_text()[-500:] for name in WORKERS)
            raise BrokenError(f"not all workers are ready after {READY_WITHIN_S:g} s:\n{said}")
        await asyncio.sleep(0.1)


async def _ask_all(redis: Redis, suffix: str, plan: Plan, seen: Seen) -> None:
    """One task after the other on one kind of stream, so that its second worker is idle all the time."""
    async with ReplyReader(redis, ACCOUNT) as replies:
        for what, within_s in plan.tasks.items():
            asked = _request(suffix, what, within_s)
            seen.answers[suffix, what], after_s = await _answer(redis, replies, suffix, asked)
            if what.startswith("hang"):
                seen.late_s.append(after_s - within_s)
        answer, after_s = await _answer(redis, replies, suffix, _request(suffix, None, 60.0))
        if answer != "done":
            raise BrokenError(f"after a child had been ended, the next request on {suffix} was answered {answer}")
        seen.served_again_s.append(after_s)


def _request(suffix: str, what: str | None, within_s: float) -> Event:
    request: PredictionRequested | JobRequested
    if suffix == "jobs":
        spec = SimulateSpec(domain=DOMAIN, variant=what, trajectories=1, frames=4, size=16)
        request = JobRequested(spec=spec)
    else:
        values = np.sin(np.arange(2 * 16 * 16, dtype=np.float32).reshape(2, 16, 16) / 40)
        model = f"trivial:{what}" if what else "trivial"
        request = PredictionRequested(domain=DOMAIN, field=inline_array(values), model=model)
    deadline = datetime.now(UTC) + timedelta(seconds=within_s)
    return new_event(request, source="nvp:benchmark", subject=DOMAIN, deadline=deadline, budget_mj=BUDGET_MJ)


async def _answer(redis: Redis, replies: ReplyReader, suffix: str, asked: Event) -> tuple[str, float]:
    """``done`` or the code of the refusal, and after how long."""
    began, patience_s = time.monotonic(), 200.0
    await publish(redis, ACCOUNT, suffix, asked)
    said = (await replies.wait(asked.id, [TYPE_OF[kind] for kind in ANSWERS], timeout_s=patience_s)).payload
    return "done" if isinstance(said, DONE) else str(getattr(said, "code", said)), time.monotonic() - began


async def _watch(redis: Redis, seen: Seen) -> None:
    """How long leases go unrenewed, and what the workers say of themselves."""
    while True:
        for suffix, group in GROUPS.items():
            pending: Any = await redis.xpending_range(names.key(ACCOUNT, suffix), group, "-", "+", 10)
            for one in pending:
                seen.unrenewed_s = max(seen.unrenewed_s, one["time_since_delivered"] / 1000)
                seen.deliveries = max(seen.deliveries, one["times_delivered"])
        found = await workers(redis)
        seen.unready |= set(WORKERS) - {one.name for one in found if one.state == "ready"}
        seen.heartbeat_age_s = max([seen.heartbeat_age_s, *(one.age_s for one in found)])
        await asyncio.sleep(0.1)


if __name__ == "__main__":
    front.CHILD_MODULE = "benchmarks.stuck_child"
    run(sys.argv[1], Settings.from_env(), serve_of(sys.argv[1]))
