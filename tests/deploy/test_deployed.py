"""Workers that serve at a stream server outside are used as they are: none is started beside them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Collection

import pytest
from redis.asyncio import Redis

from nvp_agentkit.cli import deployment
from nvp_agentkit.cli.deployment import already_there
from nvp_agentkit.errors import StackError
from nvp_agentkit.settings import Settings
from nvp_agentkit.streams.health import announce


@pytest.fixture
def alone(settings: Settings) -> Settings:
    """A keyspace where no other test's workers announce themselves."""
    return settings.model_copy(update={"redis_url": f"{str(settings.redis_url).removesuffix('/0')}/9"})


@pytest.fixture
async def server(alone: Settings) -> AsyncIterator[Redis]:
    async with Redis.from_url(str(alone.redis_url)) as redis:
        yield redis
        await redis.flushdb()


async def say(redis: Redis, names: Collection[str], state: str, instance: str = "a") -> None:
    for name in names:
        await announce(redis, name, instance, name.partition("-")[0], state)


async def test_where_nobody_serves_the_caller_starts_its_own(alone: Settings, server: Redis) -> None:
    assert await deployment.deployed(alone) == []
    assert await already_there(alone) == ""


async def test_every_ready_instance_is_counted(alone: Settings, server: Redis) -> None:
    await say(server, deployment.WORKERS, "ready")
    await say(server, ["inference"], "ready", "b")
    await say(server, ["inference"], "draining", "c")
    assert await already_there(alone) == "inference x 2, recorder, shadow-1, shadow-2, tally, training"


async def test_a_stack_that_comes_up_is_waited_for(alone: Settings, server: Redis) -> None:
    await say(server, deployment.WORKERS, "starting")
    waiting = asyncio.create_task(deployment.deployed(alone))
    await asyncio.sleep(0)
    await say(server, deployment.WORKERS, "ready")
    assert deployment.unready(await waiting) == []


async def test_a_stack_that_does_not_come_up_is_named_and_nothing_is_started_beside_it(
    alone: Settings, server: Redis
) -> None:
    await say(server, {*deployment.WORKERS} - {"tally"}, "ready")
    await say(server, ["tally"], "starting")
    with pytest.raises(StackError, match=r"not ready within 0\.1 s: tally; `nvp status`"):
        await deployment.deployed(alone, within_s=0.1)
