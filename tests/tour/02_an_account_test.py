"""Two: an account. Who asks pays, in joules, and can never spend what is somebody else's."""

from __future__ import annotations

import pytest
from redis.exceptions import NoPermissionError

from nvp_agentkit.client import AgentClient
from nvp_agentkit.errors import UnknownAccount


async def test_an_account_has_a_limit_in_joules(ledger) -> None:
    # `nvp account create ace-1 --limit-j 600` opened it; the ledger counts in whole millijoules.
    balance = await ledger.balance("ace-1")
    assert balance.limit_mj == 600_000
    assert balance.spent_mj + balance.reserved_mj + balance.free_mj == balance.limit_mj


async def test_a_client_speaks_for_one_account(stack) -> None:
    async with AgentClient.connect("ace-1", settings=stack.settings) as nvp:
        assert nvp.account == "ace-1"


async def test_an_account_that_nobody_opened_is_refused(stack) -> None:
    with pytest.raises(UnknownAccount, match="`nvp account create ace-2` does it"):
        await AgentClient.connect("ace-2", settings=stack.settings).__aenter__()


async def test_the_server_itself_keeps_accounts_apart(login) -> None:
    # Whatever an agent programs: with its own login it can write to its own streams and to no others.
    with pytest.raises(NoPermissionError):
        await login.xadd("nvp:{ace-2}:predict", {"event": "{}"})
