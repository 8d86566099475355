"""The processes of docker-compose.yml, started by hand: its commands, its variables, its health checks, real stores."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import subprocess
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import ExitStack
from typing import Any

import pytest

from nvp_agentkit.embedded import children, lock
from nvp_agentkit.settings import Settings
from nvp_agentkit.streams.health import workers

BY_HAND = ("tally", "recorder")  # one that signs and the one with the graph; all of them: `make test-stack`
PATIENCE_S = 60.0


@pytest.fixture
def environment(settings: Settings, services: dict[str, Any]) -> dict[str, str]:
    """What compose gives a worker, with the addresses of the stores under test."""
    here = {
        "NVP_REDIS_URL": settings.redis_url,
        "NVP_NEO4J_URI": settings.neo4j_uri,
        "NVP_NEO4J_PASSWORD": settings.neo4j_password,
        "NVP_NEO4J_USER": settings.neo4j_user,
        "NVP_NEO4J_DATABASE": settings.neo4j_database,
        "NVP_DATA_DIR": str(settings.data_dir),
    }
    given = {name: value for name, value in services["inference"]["environment"].items() if value is not None}
    rest = {name: value for name, value in os.environ.items() if not name.startswith("NVP_")}
    return rest | given | here


@pytest.fixture
async def up(
    settings: Settings, ours: dict[str, Any], environment: dict[str, str], ports: dict[str, int]
) -> AsyncIterator[dict[str, subprocess.Popen[bytes]]]:
    """Keys, then workers, by the commands of their services."""
    settings.data_dir.mkdir()

    def launch(name: str) -> subprocess.Popen[bytes]:
        command = [sys.executable, "-m", "nvp_agentkit.cli", *ours[name]["command"]]
        own = {"NVP_METRICS_PORT": str(ports[name])} if name in ports else {}
        log = settings.data_dir / f"{name}.log"
        return children.launch(command, env=environment | own, log=log, folder=settings.data_dir)

    assert launch("keys").wait(timeout=PATIENCE_S) == 0
    running = {name: launch(name) for name in BY_HAND}
    yield running
    await asyncio.gather(*(children.end(process, grace_s=10.0) for process in running.values()))
    assert lock.left_over(settings.data_dir) == []


@pytest.fixture
def ports() -> dict[str, int]:
    """One each; in compose each has an address of its own."""
    with ExitStack() as held:
        free = [held.enter_context(socket.create_server(("127.0.0.1", 0))) for _ in BY_HAND]
        return {name: one.getsockname()[1] for name, one in zip(BY_HAND, free, strict=True)}


@pytest.fixture
def healthy(services: dict[str, Any], ports: dict[str, int]) -> Callable[[str], bool]:
    """Runs the health check of a service as the engine does, beside the worker."""

    def check(name: str) -> bool:
        kind, *command = services[name]["healthcheck"]["test"]
        assert kind == "CMD"
        environment = {**os.environ, "NVP_METRICS_PORT": str(ports[name])}
        try:
            done = subprocess.run(command, env=environment, stderr=subprocess.DEVNULL, check=False, timeout=1.0)
        except subprocess.TimeoutExpired:  # in compose after 5 s
            return False
        return done.returncode == 0

    return check


async def test_they_are_healthy_once_redis_took_their_word_and_until_they_end(redis, up, healthy) -> None:
    assert not any(healthy(name) for name in BY_HAND)
    async with asyncio.timeout(PATIENCE_S):
        while not all(healthy(name) for name in BY_HAND):  # noqa: ASYNC110  an engine asks again as well
            await asyncio.sleep(0.1)
    seen = {one.name: one.state for one in await workers(redis)}
    assert seen.items() >= dict.fromkeys(BY_HAND, "ready").items()
    up["tally"].send_signal(signal.SIGSTOP)  # all of it stands still: no answer is no health
    assert not await asyncio.to_thread(healthy, "tally")
    up["tally"].send_signal(signal.SIGCONT)
    for process in up.values():
        process.terminate()
    for process in up.values():
        assert await children.gone(process, within_s=10.0)
        assert process.returncode == 0
    assert not any(healthy(name) for name in BY_HAND)
