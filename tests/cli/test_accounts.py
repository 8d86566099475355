"""Accounts from the command line: opened once, kept when opened again."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from redis.asyncio import Redis
from redis.exceptions import NoPermissionError
from typer.testing import CliRunner

from nvp_agentkit.cli import deployment
from nvp_agentkit.cli.app import app
from nvp_agentkit.cli.deployment import open_account
from nvp_agentkit.client.place import find, login_file
from nvp_agentkit.errors import UnknownAccount
from nvp_agentkit.settings import Settings
from nvp_agentkit.streams import names, register


@pytest.fixture
def graph_only(arcadedb, tmp_path: Path) -> Settings:
    """Settings with which a stack starts a stream server of its own and uses the session's graph."""
    return Settings(
        data_dir=tmp_path / "own",
        neo4j_uri=arcadedb.uri,
        neo4j_user=arcadedb.user,
        neo4j_password=arcadedb.password,
        neo4j_database=arcadedb.database,
    )


async def test_an_account_opened_again_keeps_its_joules_and_its_password(
    redis: Redis, settings: Settings, account: str
) -> None:
    first = await open_account(redis, settings, account, limit_mj=5_000, owner="tests")
    login = login_file(settings.data_dir, account).read_text()
    again = await open_account(redis, settings, account, limit_mj=9_000, owner="tests")
    assert first.balance == again.balance
    assert login_file(settings.data_dir, account).read_text() == login


async def test_a_stack_that_starts_gives_earlier_accounts_what_this_version_lets_them_do(graph_only: Settings) -> None:
    async with (
        deployment.supervisor(graph_only, lambda event: None, ()) as stack,
        Redis.from_url(str(stack.settings.redis_url)) as redis,
    ):
        await open_account(redis, stack.settings, "ace-1", limit_mj=5_000, owner="tests")
        old = ("resetkeys", "nocommands", "clearselectors", "+xadd", "~nvp:{ace-1}:predict")
        await redis.execute_command("ACL SETUSER", "ace-1", *old)
        await redis.acl_save()
    async with (
        deployment.supervisor(graph_only, lambda event: None, ()),
        Redis.from_url(find(graph_only, "ace-1").login_url()) as client,
    ):
        await client.xadd("nvp:{ace-1}:urgent", {"event": "x"})


async def test_a_login_that_cannot_be_read_is_made_anew(redis: Redis, settings: Settings, account: str) -> None:
    await open_account(redis, settings, account, limit_mj=5_000, owner="tests")
    login_file(settings.data_dir, account).write_text("{")
    await open_account(redis, settings, account, limit_mj=5_000, owner="tests")
    assert account in login_file(settings.data_dir, account).read_text()


async def test_an_accounts_url_is_all_that_a_stock_client_needs(
    redis: Redis, settings: Settings, account: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    await open_account(redis, settings, account, limit_mj=5_000, owner="tests")
    for name in ("data_dir", "redis_url"):
        monkeypatch.setenv(f"NVP_{name.upper()}", str(getattr(settings, name)))
    said = CliRunner().invoke(app, ["account", "url", account]).stdout.strip()
    async with Redis.from_url(said) as client:
        await client.xadd(f"nvp:{{{account}}}:predict", {"event": "x"})
        assert (await client.xlen(f"nvp:{{{account}}}:predict")) == 1
        with pytest.raises(NoPermissionError):
            await client.xadd("nvp:{somebody-else}:predict", {"event": "x"})


async def test_an_account_that_was_opened_half_way_hides_no_other(
    redis: Redis, settings: Settings, account: str, nvp, monkeypatch: pytest.MonkeyPatch
) -> None:
    half = f"{account}-half"
    await open_account(redis, settings, account, limit_mj=5_000, owner="tests")
    await register(redis, half, owner="tests")
    monkeypatch.setenv("NVP_REDIS_URL", str(settings.redis_url))
    listed = await asyncio.to_thread(nvp, "account", "list", "--json")
    await redis.hdel(names.ACCOUNTS, half)
    await redis.delete(*(names.key(half, suffix) for suffix in names.GROUPS))
    limits = {one["account"]: one["limit_mj"] for one in listed.json}
    assert (limits[account], limits[half]) == (5_000, 0)


def test_an_account_without_a_login_here_has_no_url(settings: Settings) -> None:
    with pytest.raises(UnknownAccount, match="no login of account nobody is kept here; `nvp account create` makes one"):
        find(settings, "nobody").login_url()


def test_joules_are_added_and_not_taken_away(nvp) -> None:
    assert "budget_j=-10.0: must be between" in nvp("account", "top-up", "ace-1", "-10", "--json").json["detail"]
