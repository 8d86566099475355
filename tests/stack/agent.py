"""An agent on the host: asks for so many forecasts, some at a time, and says, a JSON line each, what came of it.

    python -m tests.stack.agent ACCOUNT COUNT HEIGHT WIDTH BUDGET_J
"""

from __future__ import annotations

import asyncio
import json
import sys
import time

import numpy as np

from nvp_agentkit import AgentClient
from nvp_agentkit.errors import NvpError

DEADLINE_S = 240.0
AT_A_TIME = 16


async def ask(account: str, count: int, height: int, width: int, budget_j: int) -> None:
    y, x = np.mgrid[0:height, 0:width] * (2 * np.pi / height)
    field = np.stack([2 + np.sin(x + 0.1 * step) * np.cos(y) for step in range(2)]).astype(np.float32)

    turns = asyncio.Semaphore(AT_A_TIME)

    async def one(nvp: AgentClient) -> None:
        began = time.monotonic()
        try:
            async with turns:
                said = await nvp.predict(field, domain="plasma_physics", budget_j=budget_j, deadline_s=DEADLINE_S)
        except NvpError as error:
            told: dict[str, object] = {"refused": error.code, "why": str(error)}
        else:
            told = {"request_id": said.request_id, "model": next(iter(said.models.values())), "mj": said.energy.mj}
        print(json.dumps(told | {"seconds": round(time.monotonic() - began, 2)}), flush=True)

    async with AgentClient.connect(account) as nvp:
        await asyncio.gather(*(one(nvp) for _ in range(count)))


asyncio.run(ask(sys.argv[1], *map(int, sys.argv[2:6])))
