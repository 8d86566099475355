"""Accounts from the command line: opened once, kept when opened again."""

from __future__ import annotations

from redis.asyncio import Redis

from nvp_agentkit.cli.deployment import open_account
from nvp_agentkit.client.place import login_file
from nvp_agentkit.settings import Settings


async def test_an_account_opened_again_keeps_its_joules_and_its_password(
    redis: Redis, settings: Settings, account: str
) -> None:
    first = await open_account(redis, settings, account, limit_mj=5_000, owner="tests")
    login = login_file(settings.data_dir, account).read_text()
    again = await open_account(redis, settings, account, limit_mj=9_000, owner="tests")
    assert first.balance == again.balance
    assert login_file(settings.data_dir, account).read_text() == login


async def test_a_login_that_cannot_be_read_is_made_anew(redis: Redis, settings: Settings, account: str) -> None:
    await open_account(redis, settings, account, limit_mj=5_000, owner="tests")
    login_file(settings.data_dir, account).write_text("{")
    await open_account(redis, settings, account, limit_mj=5_000, owner="tests")
    assert account in login_file(settings.data_dir, account).read_text()
