"""The processes of docker-compose.yml, started by hand: its commands, its variables, its health checks, real stores."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from collections.abc import AsyncIterator, Callable
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
    settings: Settings, ours: dict[str, Any], environment: dict[str, str]
) -> AsyncIterator[dict[str, subprocess.Popen[bytes]]]:
    """Keys, then workers, by the commands of their services."""
    settings.data_dir.mkdir()

    def launch(name: str) -> subprocess.Popen[bytes]:
        command = [sys.executable, "-m", "nvp_agentkit.cli", *ours[name]["command"]]
        log = settings.data_dir / f"{name}.log"
        return children.launch(command, env=environment, log=log, folder=settings.data_dir)

    assert launch("keys").wait(timeout=PATIENCE_S) == 0
    running = {name: launch(name) for name in BY_HAND}
    yield running
    await asyncio.gather(*(children.end(process, grace_s=10.0) for process in running.values()))
    assert lock.left_over(settings.data_dir) == []


@pytest.fixture
def health(ours: dict[str, Any], environment: dict[str, str]) -> Callable[..., tuple[int, str]]:
    """Runs a service's health check, perhaps with other variables: its exit status and words."""

    def check(name: str, **other: str) -> tuple[int, str]:
        _, _python, *arguments = ours[name]["healthcheck"]["test"]
        done = subprocess.run(
            [sys.executable, *arguments], env=environment | other, capture_output=True, text=True, check=False
        )
        assert "Traceback" not in done.stderr
        return done.returncode, done.stdout

    return check


async def test_they_are_healthy_each_for_itself_and_no_longer_once_they_end(redis, up, health) -> None:
    async with asyncio.timeout(PATIENCE_S):
        while {one.name for one in await workers(redis) if one.state == "ready"} < {*up}:  # noqa: ASYNC110  in Redis
            await asyncio.sleep(0.05)
    assert {name: health(name)[0] for name in up} == dict.fromkeys(up, 0)
    # The check is of this very container, not of any that does the same work.
    assert health("tally", NVP_INSTANCE="another") == (1, "tally@another: not a word of it within 10 s\n")
    for process in up.values():
        process.terminate()
    for name, process in up.items():
        assert await children.gone(process, within_s=10.0)
        assert process.returncode == 0
        status, words = health(name)
        assert (status, "not a word of it" in words) == (1, True)


def test_without_redis_nobody_is_healthy(health) -> None:
    status, words = health("tally", NVP_REDIS_URL="redis://127.0.0.1:1/0")
    assert status == 1
    assert "127.0.0.1:1 does not answer" in words


def test_a_check_loads_nothing_heavy() -> None:
    heavy = ("jax", "neo4j", "obstore", "typer", "cryptography.hazmat", "structlog")
    program = f"import sys, nvp_agentkit.workers.health; print([name for name in {heavy!r} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"
