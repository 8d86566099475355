"""What the composed stack is put through. Each step returns what was seen, in words, or raises."""

from __future__ import annotations

import asyncio
import json
import os
import re
import signal
import subprocess
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

from redis.asyncio import Redis
from stack import Container, Stack, wait_for

from nvp_agentkit.cli.deployment import WORKERS
from nvp_agentkit.messages import decode
from nvp_agentkit.streams import names
from nvp_agentkit.streams.connect import connect

ACCOUNT = "demo"
OWN_KEY = {"inference": ["voter-0"], "shadow-1": ["voter-1"], "shadow-2": ["voter-2"], "tally": ["tally"]}
SIZE = 32
PROBE = """\
id -u
touch /probe 2>&1 | grep -c Read-only
grep CapEff /proc/1/status
find /nvp/keys -name '*.key' -size +0
"""


class Skipped(Exception):
    """This step cannot be done here; why."""


def up(stack: Stack) -> str:
    """All of it, each part healthy when `up --wait` returns."""
    stack.up()
    health = Counter(one.health for one in stack.containers() if one.service != "keys")
    assert health == {"healthy": len(WORKERS) + 2}, health
    assert json.loads(stack.nvp("status", "--json"))["ready"]
    return f"{len(WORKERS)} workers, redis and neo4j healthy; `nvp status` on this machine agrees"


def rights(stack: Stack) -> str:
    """Who the workers are and what they cannot do."""
    for one in stack.containers():
        if one.service not in WORKERS:
            continue
        uid, read_only, capabilities, *keys = stack.inside(one, PROBE).splitlines()
        assert (uid, read_only) == (str(stack.uid), "1"), one.service
        assert int(capabilities.split()[1], 16) == 0, one.service
        assert keys == [f"/nvp/keys/{name}.key" for name in OWN_KEY.get(one.service, [])], (one.service, keys)
    return f"uid {stack.uid}, read-only root, no capability, no private key but its own"


def first(stack: Stack) -> str:
    """An account, and a forecast before anything was trained."""
    stack.nvp("account", "create", "ace-1", "--limit-j", "500")
    (answer,) = _answers(stack.ask("ace-1", 1, SIZE, SIZE))
    return f"by {answer['model']} in {answer['seconds']} s, nothing trained"


def demo(stack: Stack) -> str:
    """`nvp demo` from this machine uses the workers that are there and starts none."""
    said = stack.nvp("demo", "--size", str(SIZE), "--budget-j", "180")
    assert "A stack that runs already" in said, said
    assert "valid: " in said, said
    assert "recomputed" in said, said
    stack.nvp("account", "top-up", ACCOUNT, "300")
    (charged,) = re.findall(r"(\S+ J) charged to account demo in (\d+) s", said)
    return f"trained, certified and verified: {charged[0]} in {charged[1]} s; arrays shared through .nvp/artifacts"


def scale(stack: Stack) -> str:
    """Three `inference` while requests keep coming: all answered, nothing left."""
    asking = stack.ask(ACCOUNT, 200, SIZE, SIZE)
    stack.up("--no-recreate", "--scale", "inference=3")
    told = _answers(asking)
    assert len(told) == 200, len(told)
    _settled(stack)
    seen = [one for one in json.loads(stack.nvp("status", "--json"))["workers"] if one["name"] == "inference"]
    assert len({one["instance"] for one in seen}) == 3, seen
    took = _answers(stack.ask(ACCOUNT, 100, SIZE, SIZE))
    _settled(stack)
    slowest_s = max(one["seconds"] for one in told + took)
    return f"3 instances; {len(told) + len(took)} forecasts answered across it, slowest {slowest_s} s, nothing pending"


def kill(stack: Stack) -> str:
    """kill -9 of the worker that holds a request: another answers it, once, and the container comes back."""
    _within_reach(stack)
    asking = stack.ask(ACCOUNT, 1, 48, 80, budget_j=60)  # nobody has compiled that shape: time to die in the middle
    holder = wait_for("a worker holds the request", lambda: asyncio.run(_holder(stack)), within_s=60)
    victim = next(one for one in stack.containers("inference") if one.host == holder)
    os.kill(victim.pid, signal.SIGKILL)
    (answer,) = _answers(asking)
    replies = asyncio.run(_replies(stack, answer["request_id"]))
    assert len(replies) == 1, replies
    back = wait_for("the killed container runs again", lambda: _again(stack, victim), within_s=60)
    wait_for("it is healthy", lambda: _again(stack, victim).health == "healthy", within_s=120)
    _settled(stack)
    assert victim.pid != back.pid
    return f"inference@{victim.host} killed in the middle: answered once, after {answer['seconds']} s; it runs again"


def sick(stack: Stack) -> str:
    """A redis that hangs (SIGSTOP): workers say that they are not well, none ends, and they recover by themselves."""
    _within_reach(stack)
    (redis,) = stack.containers("redis")
    before = {one.id: one.restarts for one in stack.containers()}
    os.kill(redis.pid, signal.SIGSTOP)
    try:
        began = time.monotonic()
        wait_for("all workers unhealthy", lambda: _all(stack, "unhealthy"), within_s=180)
        noticed_s = time.monotonic() - began
    finally:
        os.kill(redis.pid, signal.SIGCONT)
    began = time.monotonic()
    wait_for("all workers healthy again", lambda: _all(stack, "healthy"), within_s=180)
    assert {one.id: one.restarts for one in stack.containers()} == before
    healed_s = time.monotonic() - began
    assert len(_answers(stack.ask(ACCOUNT, 5, SIZE, SIZE))) == 5
    return f"unhealthy after {noticed_s:.0f} s, healthy {healed_s:.0f} s after it went on, no restart, forecasts again"


def restart(stack: Stack) -> str:
    """redis goes and comes with a request in hand: it is answered; users, joules and models are still there."""
    asking = stack.ask(ACCOUNT, 1, 80, 48, budget_j=60)
    wait_for("a worker holds the request", lambda: asyncio.run(_holder(stack)), within_s=60)
    stack.compose("restart", "redis")
    (answer,) = _answers(asking)
    assert len(asyncio.run(_replies(stack, answer["request_id"]))) == 1
    wait_for("all workers healthy", lambda: _all(stack, "healthy"), within_s=180)
    assert len(_answers(stack.ask(ACCOUNT, 5, SIZE, SIZE))) == 5
    _settled(stack)
    return f"a request in hand answered once, after {answer['seconds']} s; the account's own user still logs in"


def stop(stack: Stack) -> str:
    """`stop` within the grace period, every worker by itself; `up` again finds all as it was."""
    began = time.monotonic()
    stack.compose("stop")
    took_s = time.monotonic() - began
    ended = {one.service: one.exit_code for one in stack.containers() if one.service in WORKERS}
    assert set(ended.values()) == {0}, ended
    stack.up("--no-recreate", "--scale", "inference=1")
    assert len(_answers(stack.ask(ACCOUNT, 5, SIZE, SIZE))) == 5
    return f"stopped in {took_s:.1f} s, every worker with status 0; up again, forecasts without training"


def down(stack: Stack) -> str:
    began = time.monotonic()
    stack.compose("down", "--volumes", "--remove-orphans")
    assert stack.containers() == []
    return f"nothing left after {time.monotonic() - began:.1f} s"


STEPS: tuple[Callable[[Stack], str], ...] = (up, rights, first, demo, scale, kill, sick, restart, stop)


def memory(stack: Stack) -> list[str]:
    """Each container's peak so far beside its limit: the sum of its processes' peaks, shared pages counted twice."""
    lines = []
    for one in sorted(stack.containers(), key=lambda one: one.service):
        peaks_kb = stack.inside(one, "grep -h VmHWM /proc/[0-9]*/status") if one.running else ""
        peak_mb = sum(int(line.split()[1]) for line in peaks_kb.splitlines()) / 1024
        if peak_mb:
            lines.append(f"{one.service:<10} {peak_mb:6.0f} MB of {stack.services[one.service]['mem_limit']}")
    return lines


def _within_reach(stack: Stack) -> None:
    """A process dies or hangs by a signal from outside its container: `docker kill` would count as wanted."""
    (redis,) = stack.containers("redis")
    if os.geteuid() != 0 or not Path(f"/proc/{redis.pid}").exists():
        raise Skipped("needs root on the machine where the engine runs")


def _answers(asking: subprocess.Popen[str]) -> list[dict[str, object]]:
    """What the agent was told, once it has been told all; a refusal is an error."""
    said, _ = asking.communicate(timeout=300)
    told = [json.loads(line) for line in said.splitlines() if line.startswith("{")]
    assert asking.returncode == 0, said[-2000:]
    refused = [one for one in told if "request_id" not in one]
    assert not refused, f"{len(refused)} of {len(told)} refused, first {refused[0]}"
    return told


def _settled(stack: Stack) -> None:
    wait_for("no request, vote or fact left on any stream", lambda: asyncio.run(_left(stack)) == {}, within_s=60)


def _all(stack: Stack, health: str) -> bool:
    return all(one.health == health for one in stack.containers() if one.service in WORKERS)


def _again(stack: Stack, victim: Container) -> Container | None:
    found = (one for one in stack.containers("inference") if one.id == victim.id)
    return next((one for one in found if one.running and one.pid != victim.pid), None)


async def _left(stack: Stack) -> dict[str, int]:
    """Streams of the account on which something waits or is in hand."""
    async with _owner(stack) as redis:
        lengths = {suffix: await redis.xlen(names.key(ACCOUNT, suffix)) for suffix in names.GROUPS}
    return {suffix: length for suffix, length in lengths.items() if length}


async def _holder(stack: Stack) -> str:
    """The host name of the worker that has a single request in its hands."""
    async with _owner(stack) as redis:
        pending = await redis.xpending(names.key(ACCOUNT, "predict"), "inference")
    holders = [one["name"].decode() for one in pending["consumers"]]
    return holders[0].partition("@")[2].rpartition(".")[0] if holders else ""


async def _replies(stack: Stack, request_id: str) -> list[str]:
    async with _owner(stack) as redis:
        entries = await redis.xrange(names.replies(ACCOUNT))
    events = [decode(fields[b"event"]) for _, fields in entries if fields[b"replyto"].decode() == request_id]
    return [event.type for event in events]


@asynccontextmanager
async def _owner(stack: Stack) -> AsyncIterator[Redis]:
    redis = await connect(stack.settings)
    try:
        yield redis
    finally:
        await redis.aclose()
