"""One process of the crowd in `test_ledger_processes`: works on requests as an unreliable worker does.

Configuration comes as one JSON line on stdin (the URL holds a password). What was certainly done goes to stdout,
a JSON line at a time: what the ledger answered, so that the test can add it up on its own.
"""

from __future__ import annotations

import asyncio
import json
import os
import random
import signal
import sys
from typing import Any

from redis.asyncio import Redis

from nvp_agentkit.energy.ledger import Ledger
from nvp_agentkit.errors import InsufficientJoules

EXPIRES_MS = 1_000


def say(**fact: Any) -> None:
    print(json.dumps(fact), flush=True)


async def work(config: dict[str, Any]) -> None:
    luck = random.Random(config["seed"])
    me = f"worker-{config['seed']}"
    async with Redis.from_url(config["url"], socket_timeout=None) as redis:
        ledger = Ledger(redis)
        for number in range(config["requests"]):
            shared = luck.random() < 0.3
            id = f"shared-{number}" if shared else f"{me}-{number}"
            # Those who share an id must ask for the same, in any order.
            mj, parts = (6_000, config["workers"]) if shared else (luck.randint(1, 4_000), 1)
            if number == config["dies_at"]:
                os.kill(os.getpid(), signal.SIGKILL)
            await serve(ledger, config["account"], me, id, mj, parts, luck)


async def serve(
    ledger: Ledger, account: str, me: str, id: str, mj: int, parts: int, luck: random.Random
) -> None:
    for _ in range(1 + (luck.random() < 0.3)):  # 30% are redelivered
        try:
            await ledger.reserve(account, id, mj, parts=parts, expires_ms=EXPIRES_MS)
        except InsufficientJoules:
            say(id=id, refused=True)
            return
    say(id=id, granted=mj, parts=parts)
    if luck.random() < 0.05:  # 5% are forgotten, as by a worker that crashed
        return
    used = luck.randint(0, 2 * mj // parts)  # some use more than their share
    steps = [(used // 2, 1, False), (used, 2, True)]
    for total, seq, final in steps + luck.choices(steps, k=luck.random() < 0.5):
        await ledger.settle(account, id, me, total, seq=seq, final=final)
    say(id=id, part=me, used=used)


if __name__ == "__main__":
    asyncio.run(work(json.loads(sys.stdin.readline())))
