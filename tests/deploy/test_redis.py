"""The redis service's own start: a real server, whose users outlive it."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path

import pytest
from redis.asyncio import Redis
from redis.asyncio.retry import Retry
from redis.backoff import ConstantBackoff, NoBackoff
from redis.exceptions import AuthenticationError

from nvp_agentkit.embedded import children, place
from nvp_agentkit.embedded import valkey as embedded_valkey
from nvp_agentkit.embedded.accounts_acl import create_user

ROOT = Path(__file__).resolve().parents[2]
AT_ONCE = Retry(NoBackoff(), 0)
Serve = Callable[[str], AbstractAsyncContextManager[Redis]]


@pytest.fixture
def serve(tmp_path: Path) -> Serve:
    """Runs ``start.sh`` with the owner's password on the same folder each time, as a restarted container does."""
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "redis-server").symlink_to(embedded_valkey.binary())
    (tmp_path / "data").mkdir()

    @asynccontextmanager
    async def serving(password: str) -> AsyncIterator[Redis]:
        port = place.free_port()
        process = children.launch(
            ["sh", str(ROOT / "deploy" / "redis" / "start.sh"), "--bind", place.LOOPBACK, "--port", str(port)],
            env={"PATH": f"{tmp_path / 'bin'}:{os.environ['PATH']}", "REDISCLI_AUTH": password},
            log=tmp_path / "redis.log",
            folder=tmp_path,
            cwd=tmp_path / "data",
        )
        try:
            async with Redis(port=port, password=password, retry=Retry(ConstantBackoff(0.05), 200)) as owner:
                await owner.ping()
                yield owner
        finally:
            assert await children.end(process, grace_s=10.0) == 0

    return serving


async def test_users_and_streams_outlive_the_server_and_a_new_password_replaces_the_owners(serve: Serve) -> None:
    async with serve("first") as owner:
        login = await create_user(owner, "ace-1")
        assert login.kept
        await owner.set("nvp:{ace-1}:models", "kept")
        port = owner.connection_pool.connection_kwargs["port"]
        with pytest.raises(AuthenticationError):
            await Redis(port=port, password="guess", retry=AT_ONCE).ping()
        assert (await owner.config_get("maxmemory-policy"))["maxmemory-policy"] == "noeviction"
    async with serve("second") as owner:
        port = owner.connection_pool.connection_kwargs["port"]
        async with Redis(port=port, username="ace-1", password=login.password) as agent:
            assert await agent.get("nvp:{ace-1}:models") == b"kept"
        with pytest.raises(AuthenticationError):
            await Redis(port=port, password="first", retry=AT_ONCE).ping()
