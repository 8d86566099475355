"""Accounts side by side at one compute child: what one asks for is not what the others wait for or lose."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest

from nvp_agentkit.artifacts import inline_array
from nvp_agentkit.errors import NoRoom
from nvp_agentkit.messages import PredictionCompleted, PredictionRefused, PredictionRequested
from nvp_agentkit.messages.envelope import TYPE_OF
from nvp_agentkit.settings import Settings
from nvp_agentkit.streams import ReplyReader, dead_letters, names, publish, register
from nvp_agentkit.workers import inference, refusals
from nvp_agentkit.workers.process import Role, run_roles
from nvp_agentkit.workers.serving import room
from nvp_agentkit.workers.serving.forecasting import ModelHost

from .conftest import Bench


@pytest.fixture
async def other(bench: Bench, redis) -> AsyncIterator[Bench]:
    """Another account of the same deployment."""
    account = f"{bench.account}-other"
    await register(redis, account, owner="tests")
    await bench.system.ledger.create(account, 1_000_000)
    yield Bench(bench.system, account)
    await redis.hdel(names.ACCOUNTS, account)
    for kind in (account, "ledger"):
        for key in [key async for key in redis.scan_iter(match=f"nvp:{{{kind}}}:*", count=1000)]:
            if account.encode() in key:
                await redis.delete(key)


@pytest.fixture
def no_cache(settings: Settings) -> Path:
    """Where this test's child (`own_child`) keeps what it compiles: a folder that is empty."""
    folder = settings.data_dir / "compile-cache"
    folder.unlink()
    folder.mkdir()
    return folder


@pytest.fixture
def ask(models: ModelHost, request_of) -> Callable:
    """Ask for a forecast of a field of so many columns, of its own values."""
    asked = 0

    async def one(who: Bench, columns: int = 32, model: str | None = None) -> PredictionCompleted:
        nonlocal asked
        asked += 1
        rng = np.random.default_rng(asked)
        field = inline_array(1 + rng.random((2, 32, columns), np.float32), "J")
        delivery = who.delivery(request_of(field=field, model=model), budget_mj=40_000)
        answer = who.said(await inference.answer(delivery, models, who.system))
        assert isinstance(answer, PredictionCompleted)
        return answer

    return one


def emptied(folder: Path) -> Path:
    shutil.rmtree(folder)
    folder.mkdir()
    return folder


async def test_an_account_that_asks_for_ever_more_shapes_has_no_other_wait_for_a_compiler_again(
    own_child, no_cache, bench, other, models, weights, ask, monkeypatch
) -> None:
    monkeypatch.setattr(room, "PASSING_KEPT", 2)
    await bench.serve({"voter-0": weights(0)})
    await other.serve({"voter-0": weights(1)})
    await ask(bench)  # in service
    await ask(bench, 40)  # a shape of its own
    for columns in (48, 56, 64):
        await ask(other, columns)
    emptied(no_cache)
    for columns in (32, 40):
        await ask(bench, columns)
    assert list(no_cache.iterdir()) == [], "something was compiled again"
    await ask(other, 48)
    assert list(no_cache.iterdir()) != [], "it had been forgotten"


async def test_a_forecast_that_is_ready_goes_before_a_shape_that_has_to_be_compiled(
    own_child, bench, other, models, weights, ask, request_of
) -> None:
    for who, seed in ((bench, 0), (other, 1)):
        await who.serve({"voter-0": weights(seed)})
        await ask(who)
    champion, child = await models.who.single(other.delivery(request_of()), request_of()), bench.system.child
    compile_it = {"model_id": champion.model_id, "frames": [2, 32, 40], "batch": 1}
    async with child.turn("busy with others"):
        first = asyncio.create_task(child.call("ready", compile_it, long=True))
        await so_many(child._turns, 1)
        second = asyncio.create_task(ask(bench))
        await so_many(child._turns, 2)
    await second
    assert not first.done()
    await first


async def so_many(turns, count: int) -> None:
    """Until so many wait for the child."""
    async with asyncio.timeout(20):
        while len(turns._waiting) < count:  # noqa: ASYNC110
            await asyncio.sleep(0.01)


async def test_accounts_take_turns_where_shapes_have_to_be_compiled(
    own_child, bench, other, models, weights, ask
) -> None:
    for who, seed in ((bench, 0), (other, 1)):
        await who.serve({"voter-0": weights(seed)})
        await ask(who)
    ended: list[str] = []

    async def noted(who: Bench, columns: int) -> None:
        await ask(who, columns)
        ended.append(who.account)

    async with bench.system.child.turn("busy with others"):
        asking = [asyncio.create_task(noted(other, columns)) for columns in (40, 48, 56)]
        await so_many(models._warm._loading, 2)
        asking.append(asyncio.create_task(noted(bench, 64)))
        await so_many(models._warm._loading, 3)
    await asyncio.gather(*asking)
    assert ended.index(bench.account) <= 1, "behind all that the other one had asked for"


@pytest.mark.parametrize("when", ["later", "in the same batch"])
async def test_who_asks_for_what_is_ready_is_answered_while_another_shape_is_compiled(
    own_child, bench, models, weights, ask, request_of, when
) -> None:
    await bench.serve({"voter-0": weights(0)})
    await ask(bench)
    system, stop, loading = bench.system, asyncio.Event(), models._warm._loading
    answering = partial(inference.answer, models=models, system=system)
    role = Role.each("predict", "inference", PredictionRequested, answering, refusals.prediction, hands=2)
    new = inline_array(np.ones((2, 32, 40), np.float32), "J")
    compiled = bench.delivery(request_of(field=new), budget_mj=40_000).event
    ready = bench.delivery(request_of()).event
    async with ReplyReader(system.redis, bench.account) as replies:
        async with loading.turn("a shape that takes long"):
            await publish(system.redis, bench.account, "predict", compiled)
            if when == "in the same batch":
                await publish(system.redis, bench.account, "predict", ready)
            running = asyncio.create_task(run_roles(system, stop, [role]))
            await so_many(loading, 1)
            if when == "later":
                await publish(system.redis, bench.account, "predict", ready)
            await replies.wait(ready.id, [TYPE_OF[PredictionCompleted]], timeout_s=20)
        await replies.wait(compiled.id, [TYPE_OF[PredictionCompleted]], timeout_s=20)
    stop.set()
    await running


async def test_models_are_kept_by_the_megabytes_of_their_weights_and_what_serves_stays(
    own_child, bench, other, models, weights, ask
) -> None:
    mine = await bench.serve({f"voter-{n}": weights(n) for n in range(3)})
    theirs = await other.serve({f"voter-{n}": weights(n + 3) for n in range(3)})
    mb = mine.champion.weights.bytes / 1e6
    host = ModelHost("voter-0", replace(bench.system, settings=settings_with(bench, 3.5 * mb)))
    models._warm, models._duty, models._batches = host._warm, host._duty, host._batches
    (champion, *_), (_, second, third) = mine.members, theirs.members
    for who, one in ((bench, champion), (bench, mine.members[1]), (other, second), (other, third), (other, second)):
        assert (await ask(who, model=one.model_id)).model_id == one.model_id
    kept = models._warm._room.models
    assert len(kept) == 3
    assert {champion.model_id, mine.members[1].model_id} < set(kept), "one who has much took from one who has little"
    tight = ModelHost("voter-0", replace(bench.system, settings=settings_with(bench, 0.5 * mb)))
    models._warm, models._duty, models._batches = tight._warm, tight._duty, tight._batches
    with pytest.raises(NoRoom, match=r"weights are 0\.\d\d MB, those in service here 0\.00 MB, and NVP_MODELS_MB is"):
        await ask(bench)


async def test_a_request_for_which_there_is_no_room_is_refused_with_the_remedy_and_is_no_dead_letter(
    bench, weights, request_of
) -> None:
    await bench.serve({"voter-0": weights(0)})
    system, stop = replace(bench.system, settings=settings_with(bench, 0.01)), asyncio.Event()
    answering = partial(inference.answer, models=ModelHost("voter-0", system), system=system)
    roles = [Role.each("predict", "inference", PredictionRequested, answering, refusals.prediction)]
    running = asyncio.create_task(run_roles(system, stop, roles))
    event = bench.delivery(request_of()).event
    await publish(system.redis, bench.account, "predict", event)
    async with ReplyReader(system.redis, bench.account) as replies:
        refused = (await replies.wait(event.id, [TYPE_OF[PredictionRefused]], timeout_s=20)).payload
    stop.set()
    await running
    assert (refused.code, refused.retry_after_s) == ("no_room", None)
    assert refused.detail.endswith("NVP_MODELS_MB is 0.01; raise that, or serve fewer")
    assert await dead_letters(system.redis, bench.account, "predict") == []
    assert (await bench.balance()).spent_mj == 0


def settings_with(bench: Bench, models_mb: float) -> Settings:
    return bench.system.settings.model_copy(update={"models_mb": models_mb})
