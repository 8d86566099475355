"""Several processes on one account of the real server: redelivery, duplicates, crashes, and one kill -9."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
from collections import defaultdict
from pathlib import Path
from typing import Any

import nvp_agentkit
from nvp_agentkit.energy.ledger import Ledger

WORKERS, REQUESTS, LIMIT_MJ = 4, 200, 400_000
PACKAGE_FOLDER = Path(nvp_agentkit.__file__).parents[1]


def start(url: str, account: str, seed: int) -> subprocess.Popen[str]:
    process = subprocess.Popen(
        [sys.executable, str(Path(__file__).with_name("crowd.py"))],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        env=os.environ | {"PYTHONPATH": str(PACKAGE_FOLDER)},
    )  # fmt: skip
    config = {
        "url": url, "account": account, "seed": seed, "workers": WORKERS, "requests": REQUESTS,
        "dies_at": REQUESTS // 2 if seed == 0 else -1,
    }  # fmt: skip
    assert process.stdin is not None
    process.stdin.write(json.dumps(config) + "\n")
    process.stdin.flush()
    return process


def cost(facts: list[dict[str, Any]]) -> tuple[int, int]:
    """What the account must have paid, and the overdraft: added up from what the processes saw, nothing else."""
    grants: dict[str, tuple[int, int]] = {}
    used: dict[str, list[int]] = defaultdict(list)
    refused = {fact["id"] for fact in facts if "refused" in fact}
    for fact in facts:
        if "granted" in fact:
            grants[fact["id"]] = (fact["granted"], fact["parts"])
        elif "used" in fact:
            used[fact["id"]].append(fact["used"])
    assert not refused & grants.keys(), "voters of one request were told different things"
    spent = overdraft = 0
    for id, (granted, parts) in grants.items():
        share = granted // parts
        orphans = parts - len(used[id])
        spent += sum(min(one, share) for one in used[id]) + orphans * share
        overdraft += sum(max(one - share, 0) for one in used[id])
    return spent, overdraft


async def test_a_crowd_of_unreliable_processes_never_overruns_and_every_millijoule_is_accounted_for(
    ledger: Ledger, account: str, valkey: str
) -> None:
    await ledger.create(account, LIMIT_MJ)
    crowd = [start(valkey, account, seed) for seed in range(WORKERS)]
    outputs = [asyncio.create_task(asyncio.to_thread(process.communicate)) for process in crowd]
    looks = 0
    try:
        while not all(output.done() for output in outputs):
            balance = await ledger.balance(account)
            assert balance.spent_mj + balance.reserved_mj <= balance.limit_mj
            looks += 1
            await asyncio.sleep(0.002)
    finally:
        for process in crowd:
            process.kill()
    assert [process.returncode for process in crowd] == [-9, 0, 0, 0]

    await ledger.reap(10_000)
    facts = [json.loads(line) for output in outputs for line in (await output)[0].splitlines()]
    balance = await ledger.balance(account)
    assert balance.reserved_mj == 0
    assert (balance.spent_mj, balance.overdraft_mj) == cost(facts)
    assert looks > 20
    assert any("refused" in fact for fact in facts), "the account was never short: this test shows nothing"
    assert balance.free_mj < LIMIT_MJ // 10
