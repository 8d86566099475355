"""What an account's own user may do at the stream server, and what it may not."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from redis.asyncio import Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import AuthenticationError, NoPermissionError

from nvp_agentkit.embedded import valkey
from nvp_agentkit.embedded.accounts_acl import create_user, remove_user, renew_users
from nvp_agentkit.errors import InvalidInput


def client_of(owner: Redis, name: str, password: str) -> Redis:
    place = owner.connection_pool.connection_kwargs
    return Redis(host=place["host"], port=place["port"], username=name, password=password,
                 retry=Retry(NoBackoff(), 0))


@pytest.fixture
async def agent(redis: Redis, account: str) -> AsyncIterator[Redis]:
    """A client that is logged in as the account's user."""
    login = await create_user(redis, account)
    async with client_of(redis, account, login.password) as client:
        yield client
    await remove_user(redis, account)


async def test_an_account_asks_and_reads_its_answer(redis: Redis, agent: Redis, account: str) -> None:
    for suffix in ("jobs", "predict", "ensemble"):
        await agent.xadd(f"nvp:{{{account}}}:{suffix}", {"event": b"x"})
    await redis.xadd(f"nvp:{{{account}}}:replies", {"event": b"y"})
    await redis.hset(f"nvp:{{{account}}}:models", "plasma_physics", "{}")
    assert await agent.xread({f"nvp:{{{account}}}:replies": "0"}, block=100)
    assert await agent.xrevrange(f"nvp:{{{account}}}:replies", count=1)
    assert await agent.hgetall(f"nvp:{{{account}}}:models") == {b"plasma_physics": b"{}"}
    assert await agent.hexists("nvp:{registry}:accounts", account) in (0, 1)
    assert await agent.hgetall(f"nvp:{{ledger}}:account:{account}") == {}


@pytest.mark.parametrize("suffix", ["votes", "replies", "lineage", "job:j1"])
async def test_an_account_cannot_say_what_only_workers_say(agent: Redis, account: str, suffix: str) -> None:
    with pytest.raises(NoPermissionError):
        await agent.xadd(f"nvp:{{{account}}}:{suffix}", {"event": b"x"})


async def test_an_account_cannot_reach_into_another_or_into_the_ledger(agent: Redis, account: str) -> None:
    attempts = [
        ("XADD", f"nvp:{{{account}x}}:jobs", "*", "event", "x"),
        ("XREAD", "STREAMS", "nvp:{other}:replies", "0"),
        ("HSET", f"nvp:{{ledger}}:account:{account}", "limit", "1"),
        ("HGETALL", f"nvp:{{ledger}}:account:{account}x"),
        ("HSET", f"nvp:{{{account}}}:models", "plasma_physics", "{}"),
        ("DEL", f"nvp:{{{account}}}:jobs"),
        ("XTRIM", f"nvp:{{{account}}}:jobs", "MAXLEN", "0"),
        ("EVAL", "return 1", "0"),
        ("KEYS", "*"),
        ("SCAN", "0"),
        ("CONFIG", "GET", "*"),
        ("ACL", "LIST"),
        ("FLUSHALL",),
    ]
    for attempt in attempts:
        with pytest.raises(NoPermissionError):
            await agent.execute_command(*attempt)


async def test_a_new_password_ends_the_old_one(redis: Redis, account: str) -> None:
    old, new = await create_user(redis, account), await create_user(redis, account)
    with pytest.raises(AuthenticationError):
        async with client_of(redis, account, old.password) as client:
            await client.ping()
    async with client_of(redis, account, new.password) as client:
        assert await client.ping()
    assert await remove_user(redis, account)
    assert not await remove_user(redis, account)


async def test_a_user_of_an_earlier_version_is_renewed_and_keeps_its_password(redis: Redis, account: str) -> None:
    login = await create_user(redis, account)
    now = await redis.acl_getuser(account)
    await redis.execute_command("ACL SETUSER", account, "resetkeys", "nocommands", "+del", f"~nvp:{{{account}}}:old")
    await renew_users(redis, [account, f"{account}-nobody"])
    assert await redis.acl_getuser(account) == now
    assert f"{account}-nobody" not in await redis.acl_users()
    async with client_of(redis, account, login.password) as client:
        for suffix in ("urgent", "cancel", "service"):
            await client.xadd(f"nvp:{{{account}}}:{suffix}", {"event": b"x"})
    await remove_user(redis, account)


async def test_users_survive_a_restart_of_the_server(tmp_path: Path, redis_program: str) -> None:
    server = await valkey.start(tmp_path, program=redis_program)
    async with Redis.from_url(valkey.url(server)) as owner:
        login = await create_user(owner, "ace-1")
    assert login.kept
    await server.stop()
    server = await valkey.start(tmp_path, program=redis_program)
    try:
        async with client_of(Redis.from_url(valkey.url(server)), "ace-1", login.password) as client:
            await client.xadd("nvp:{ace-1}:jobs", {"event": b"x"})
        assert login.password not in (tmp_path / "users.acl").read_text()
    finally:
        await server.stop()


@pytest.mark.parametrize("name", ["default", "*", "a}:jobs ~*", "A", "", "a" * 64])
async def test_a_name_that_is_a_pattern_or_the_owner_is_refused(redis: Redis, name: str) -> None:
    with pytest.raises(InvalidInput, match="account"):
        await create_user(redis, name)
