"""A ledger on the real server, under the test's own account, and the check that it leaves nothing but the account."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
from redis.asyncio import Redis

from nvp_agentkit.energy import names
from nvp_agentkit.energy.ledger import Ledger

FAR_FUTURE_MS = 2**52


@pytest.fixture
async def ledger(redis: Redis, account: str) -> AsyncIterator[Ledger]:
    """Whatever a test leaves open is reaped; then only accounts may be without a TTL."""
    ledger = Ledger(redis)
    yield ledger
    await ledger.reap(FAR_FUTURE_MS)
    lasting = [key async for key in redis.scan_iter(match="nvp:{ledger}:*", count=1000) if await redis.ttl(key) == -1]
    assert [key for key in lasting if not key.startswith(names.account("").encode())] == []
