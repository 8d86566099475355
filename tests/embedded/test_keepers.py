"""Whoever keeps a process running lets go when told to, also in the middle of asking how it is."""

from __future__ import annotations

import asyncio

from nvp_agentkit.embedded.supervisor import Supervisor
from nvp_agentkit.embedded.worker import KeptWorker, WorkerSpec


async def test_a_heartbeat_that_is_asked_for_can_be_cancelled_at_any_moment(settings) -> None:
    async with Supervisor(settings, [], on_event=lambda event: None) as stack:
        kept = KeptWorker(WorkerSpec("anyone", ("true",), "no-heartbeat"), settings.data_dir, lambda event: None)

        async def ask_for_ever() -> None:
            while True:
                await kept._heartbeat(stack._redis, 1)

        for moment in range(60):
            asking = asyncio.create_task(ask_for_ever())
            for _ in range(moment % 12 + 1):
                await asyncio.sleep(0)
            asking.cancel()
            ended, _ = await asyncio.wait({asking}, timeout=5)
            assert ended, f"cancelled after {moment % 12 + 1} turns of the loop, and it went on asking"
