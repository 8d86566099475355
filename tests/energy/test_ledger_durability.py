"""What the ledger acknowledged is still there after the server was killed and started again on its folder."""

from __future__ import annotations

import signal
from pathlib import Path

from redis.asyncio import Redis

from nvp_agentkit.embedded import valkey
from nvp_agentkit.energy.ledger import Ledger
from nvp_agentkit.energy.names import OPEN


async def test_an_acknowledged_reservation_survives_a_kill_of_the_server(tmp_path: Path, redis_program: str) -> None:
    server = await valkey.start(tmp_path / "valkey", appendfsync="always", program=redis_program)
    async with Redis.from_url(valkey.url(server)) as redis:
        ledger = Ledger(redis)
        await ledger.create("ace-1", 10_000)
        await ledger.reserve("ace-1", "open", 3_000, expires_ms=100)
        await ledger.reserve("ace-1", "done", 2_000, expires_ms=100)
        await ledger.settle("ace-1", "done", "w", 1_500, seq=1, final=True)
        before = await ledger.balance("ace-1")
    server.process.send_signal(signal.SIGKILL)
    server.process.wait()

    server = await valkey.start(tmp_path / "valkey", appendfsync="always", program=redis_program)
    async with Redis.from_url(valkey.url(server)) as redis:
        ledger = Ledger(redis)
        assert await ledger.balance("ace-1") == before
        assert await ledger.reap(100) == {("ace-1", "open"): 3_000}
        assert (await ledger.balance("ace-1")).free_mj == 10_000 - 1_500 - 3_000
        assert await redis.exists(OPEN) == 0
    await server.stop()
