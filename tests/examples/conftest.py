"""What the examples talk to: the stores, an inference worker, an account with joules and one with hardly any."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from nvp_agentkit.cli import deployment
from nvp_agentkit.client.place import find
from nvp_agentkit.embedded.supervisor import Supervisor
from nvp_agentkit.embedded.worker import WorkerSpec
from nvp_agentkit.ensemble import init_keys
from nvp_agentkit.settings import Settings
from nvp_agentkit.streams import names
from nvp_agentkit.streams.connect import connect

RICH, POOR = "ace-1", "ace-2"
LIMITS_MJ = {RICH: 500_000, POOR: 1}


@pytest.fixture(scope="session")
def place(tmp_path_factory: pytest.TempPathFactory, compile_cache: Path) -> Iterator[Settings]:
    """Settings that lead to a running stack by its data folder alone."""
    settings = Settings(data_dir=tmp_path_factory.mktemp("examples") / "nvp")
    settings.data_dir.mkdir()
    (settings.data_dir / "compile-cache").symlink_to(compile_cache)
    init_keys(settings.keys_dir, deployment.SIGNERS)
    worker = [sys.executable, "-m", "nvp_agentkit.workers", "inference"]
    with asyncio.Runner(loop_factory=asyncio.new_event_loop) as loop:
        spec = WorkerSpec("inference", worker, names.worker("inference", settings.instance))
        running = Supervisor(settings, [spec], on_event=lambda event: None)
        started = loop.run(running.start())
        try:
            loop.run(running.ready(timeout_s=60))
            loop.run(_open_accounts(started))
            yield settings
        finally:
            loop.run(running.stop())


async def _open_accounts(settings: Settings) -> None:
    redis = await connect(settings)
    try:
        for account, limit_mj in LIMITS_MJ.items():
            await deployment.open_account(redis, settings, account, limit_mj=limit_mj, owner="tests")
    finally:
        await redis.aclose()


@pytest.fixture(scope="session")
def rich(place: Settings) -> str:
    """``nvp account url`` of an account that can pay."""
    return find(place, RICH).login_url()


@pytest.fixture(scope="session")
def poor(place: Settings) -> str:
    """The same of one that cannot."""
    return find(place, POOR).login_url()
