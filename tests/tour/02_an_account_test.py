"""Two: an account. Who asks pays, in joules, and can never spend what is somebody else's."""

from __future__ import annotations

import pytest
from redis.exceptions import NoPermissionError

from nvp_agentkit.client import AgentClient
from nvp_agentkit.client.place import find
from nvp_agentkit.energy.ledger import Ledger
from nvp_agentkit.errors import UnknownAccount
from nvp_agentkit.streams.connect import connect


async def test_an_account_has_a_limit_in_joules(stack) -> None:
    # `nvp account create ace-1 --limit-j 600` opened it; the ledger counts in whole millijoules.
    redis = await connect(find(stack.settings).settings)
    balance = await Ledger(redis).balance("ace-1")
    await redis.aclose()
    assert balance.limit_mj == 600_000
    assert balance.spent_mj + balance.reserved_mj + balance.free_mj == balance.limit_mj


async def test_a_client_speaks_for_one_account(stack) -> None:
    async with AgentClient.connect("ace-1", settings=stack.settings) as nvp:
        assert nvp.account == "ace-1"


async def test_an_account_that_nobody_opened_is_refused(stack) -> None:
    with pytest.raises(UnknownAccount, match="`nvp account create ace-2` does it"):
        await AgentClient.connect("ace-2", settings=stack.settings).__aenter__()


async def test_the_server_itself_keeps_accounts_apart(stack) -> None:
    # Whatever an agent programs: with its own login it can write to its own streams and to no others.
    redis = await connect(find(stack.settings, "ace-1").settings)
    with pytest.raises(NoPermissionError):
        await redis.xadd("nvp:{ace-2}:predict", {"event": "{}"})
    await redis.aclose()
