"""Reaching a stack: who we are there, what we may do there, and that nothing is waited for without end."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path

import pytest
from redis.asyncio import Redis
from redis.exceptions import NoPermissionError

from nvp_agentkit.cli.deployment import open_account
from nvp_agentkit.client import AgentClient
from nvp_agentkit.client.place import find
from nvp_agentkit.embedded import valkey as embedded_valkey
from nvp_agentkit.embedded.accounts_acl import remove_user
from nvp_agentkit.embedded.server import Server
from nvp_agentkit.errors import (
    DeadlineExceeded,
    InvalidInput,
    StackNotRunning,
    StoreUnavailable,
    UnknownAccount,
)
from nvp_agentkit.messages import PredictionRefused, decode
from nvp_agentkit.settings import Settings
from nvp_agentkit.streams import connect, names, register


async def test_without_a_stack_the_client_says_how_to_start_one(tmp_path: Path) -> None:
    with pytest.raises(StackNotRunning, match="`nvp up` starts one"):
        AgentClient.connect("ace-1", settings=Settings(data_dir=tmp_path))


async def test_without_an_account_the_client_says_how_to_name_one(settings: Settings) -> None:
    with pytest.raises(InvalidInput, match="NVP_ACCOUNT"):
        AgentClient.connect(settings=settings)


async def test_an_account_nobody_registered_is_refused_by_the_client(settings: Settings) -> None:
    with pytest.raises(UnknownAccount, match="account 'nobody' is not registered; `nvp account create nobody`"):
        await AgentClient.connect("nobody", settings=settings).__aenter__()


async def test_a_server_that_is_not_there_is_named_with_its_remedy(settings: Settings) -> None:
    nowhere = settings.model_copy(update={"redis_url": "redis://:s3cret@127.0.0.1:1/0"})
    with pytest.raises(StoreUnavailable, match=r"127\.0\.0\.1:1 does not answer .*NVP_REDIS_URL") as caught:
        await AgentClient.connect("ace-1", settings=nowhere).__aenter__()
    assert "s3cret" not in str(caught.value)


async def test_a_read_that_lasts_longer_than_redis_py_waits_by_default_is_no_error(settings: Settings) -> None:
    async with await connect(settings) as ours:
        assert not await ours.xread({"nothing": "$"}, block=5500)


@pytest.fixture
async def opened(redis: Redis, account: str, settings: Settings) -> AsyncIterator[str]:
    """An account as `nvp account create` opens it, with a user of its own at the server."""
    settings.data_dir.mkdir()
    await open_account(redis, settings, account, limit_mj=5000, owner="tests")
    yield account
    await remove_user(redis, account)


async def test_a_client_goes_by_its_accounts_own_login(opened: str, settings: Settings, redis: Redis, field) -> None:
    asked = names.key(opened, "predict")
    async with AgentClient.connect(opened, settings=settings) as nvp:
        assert opened.encode() in {client["user"].encode() for client in await redis.client_list()}
        asking = asyncio.create_task(nvp.predict(field, domain="plasma_physics", budget_j=1, deadline_s=0.3))
        with pytest.raises(DeadlineExceeded):
            await asking
    assert await redis.xlen(asked) == 1


async def test_the_server_refuses_whoever_asks_in_anothers_name(opened: str, settings: Settings, redis: Redis) -> None:
    victim = f"{opened}-victim"
    await register(redis, victim, owner="tests")
    try:
        raw = await connect(find(settings, opened).settings)  # no client of ours: whatever an agent may program
        for suffix in ("predict", "ensemble", "jobs", "votes", "lineage", "replies"):
            with pytest.raises(NoPermissionError):
                await raw.xadd(names.key(victim, suffix), {"event": "{}"})
        for suffix in ("votes", "lineage", "replies"):  # nor votes, facts and answers in its own
            with pytest.raises(NoPermissionError):
                await raw.xadd(names.key(opened, suffix), {"event": "{}"})
        with pytest.raises(NoPermissionError):
            await raw.hset(f"nvp:{{ledger}}:account:{opened}", "limit", "1000000000")
        await raw.aclose()
    finally:
        await redis.hdel(names.ACCOUNTS, victim)
        await redis.delete(*[key async for key in redis.scan_iter(match=f"nvp:{{{victim}}}:*")])


async def test_many_clients_of_an_account_in_a_process_share_a_reader_and_each_gets_its_own_replies(
    desk, settings: Settings, redis: Redis, field
) -> None:
    async def connections() -> int:
        return len(await redis.client_list()) - before

    before = len(await redis.client_list())
    async with AsyncExitStack() as stack:
        clients = await asyncio.gather(*(
            stack.enter_async_context(AgentClient.connect(desk.account, settings=settings)) for _ in range(50)
        ))  # fmt: skip
        asking = [
            asyncio.create_task(client.predict(field, domain="plasma_physics", budget_j=1 + k))
            for k, client in enumerate(clients)
        ]
        stream = names.key(desk.account, "predict")
        async with asyncio.timeout(20):
            while await redis.xlen(stream) < 50:  # noqa: ASYNC110
                await asyncio.sleep(0.01)
        for _, fields in await redis.xrange(stream):
            asked = decode(fields[b"event"])
            refusal = PredictionRefused(request_id=asked.id, code="internal", detail=f"of {asked.budgetmj} mJ")
            await desk.answer(refusal, asked.id)
        told = await asyncio.gather(*asking, return_exceptions=True)
        assert [str(one) for one in told] == [f"of {1000 * (1 + k)} mJ" for k in range(50)]
        assert 2 <= await connections() <= 20
        async with AgentClient.connect(desk.account, settings=settings):
            pass  # who leaves first takes nothing along
        asking = [asyncio.create_task(clients[0].predict(field, domain="x", budget_j=1, deadline_s=0.2))]
        with pytest.raises(DeadlineExceeded):
            await asking[0]
    assert await connections() <= 0  # the last one out closes


async def test_an_account_that_could_not_be_reached_is_tried_again_by_the_next_client(
    tmp_path: Path, settings: Settings, account: str, unused_tcp_port: int
) -> None:
    at = settings.model_copy(update={"redis_url": f"redis://127.0.0.1:{unused_tcp_port}/0"})
    failed = await asyncio.gather(
        *(AgentClient.connect(account, settings=at).__aenter__() for _ in range(3)), return_exceptions=True
    )
    assert [type(one) for one in failed] == [StoreUnavailable] * 3
    with pytest.raises(StoreUnavailable):
        await AgentClient.connect(account, settings=at).__aenter__()


async def test_a_wrong_password_is_said(opened: str, settings: Settings) -> None:
    wrong = settings.model_copy(update={"account_password": "guess"})
    with pytest.raises(StoreUnavailable, match="invalid username-password pair"):
        await AgentClient.connect(opened, settings=wrong).__aenter__()


async def test_a_request_nobody_answers_is_given_up_at_its_deadline(nvp, field) -> None:
    began = time.monotonic()
    with pytest.raises(DeadlineExceeded, match="no reply within"):
        await nvp.predict(field, domain="plasma_physics", budget_j=5, deadline_s=0.3)
    assert time.monotonic() - began < 5


@pytest.fixture
async def own_server(tmp_path: Path) -> AsyncIterator[Server]:
    server = await embedded_valkey.start(tmp_path / "own", appendfsync="no")
    yield server
    await server.stop()


async def test_a_server_that_hangs_holds_nobody_and_when_it_wakes_all_goes_on(
    own_server: Server, settings: Settings, account: str, field
) -> None:
    at = settings.model_copy(update={"redis_url": embedded_valkey.url(own_server)})
    async with Redis.from_url(str(at.redis_url), socket_timeout=None) as owner:
        await register(owner, account, owner="tests")
    async with AgentClient.connect(account, settings=at) as nvp:
        os.kill(own_server.process.pid, signal.SIGSTOP)
        began = time.monotonic()
        attempts = await asyncio.gather(
            nvp.predict(field, domain="plasma_physics", budget_j=5, deadline_s=0.5),
            nvp.simulate("plasma_physics", budget_j=5, deadline_s=0.5),
            nvp.recorded(timeout_s=0.1),
            AgentClient.connect(account, settings=at).__aenter__(),
            return_exceptions=True,
        )
        assert time.monotonic() - began < 12
        assert [type(attempt) for attempt in attempts] == [StoreUnavailable] * 4
        os.kill(own_server.process.pid, signal.SIGCONT)
        with pytest.raises(DeadlineExceeded):  # it can be asked again; only, there is no worker
            await nvp.predict(field, domain="plasma_physics", budget_j=5, deadline_s=0.3)
