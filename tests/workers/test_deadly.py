"""A model that the compute child dies of: it costs the other accounts' models once, and not at every look."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any

import pytest

from nvp_agentkit.errors import ComputeFailed, NotReady
from nvp_agentkit.messages import PredictionCompleted
from nvp_agentkit.settings import Settings, compute_environment
from nvp_agentkit.streams import names, register
from nvp_agentkit.workers import inference
from nvp_agentkit.workers.compute.front import Answer, ComputeChild
from nvp_agentkit.workers.serving import deadly, duty, switching
from nvp_agentkit.workers.serving.deadly import Deadly
from nvp_agentkit.workers.serving.forecasting import ModelHost
from nvp_agentkit.workers.system import System

KEY = "model", (2, 32, 32)


@pytest.fixture(autouse=True)
def looks_all_the_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(duty, "LOOK_EVERY_S", 0.01)


@pytest.fixture
def long_pause(monkeypatch: pytest.MonkeyPatch) -> None:
    """What the child died of is left alone for longer than any test."""
    monkeypatch.setattr(deadly, "FIRST_S", 600.0)
    monkeypatch.setattr(deadly, "LONGEST_S", 600.0)


class Mortal(ComputeChild):
    """A compute child that dies of one model."""

    def __init__(self, settings: Settings, deadly: str) -> None:
        super().__init__(compute_environment(settings))
        self._deadly = deadly
        self.loads: list[str] = []
        self.looks = 0

    async def start(self) -> None:
        self.looks += 1
        await super().start()

    async def call(self, op: str, params: Mapping[str, Any], *args: Any, **options: Any) -> Answer:
        if op == "load":
            self.loads.append(params["model_id"])
            if params["model_id"] == self._deadly:
                os.kill(self.pid or 0, signal.SIGKILL)
        return await super().call(op, params, *args, **options)


class Disturbed(ComputeChild):
    """A compute child that somebody else's work kills between two steps of a load."""

    async def call(self, op: str, *args: Any, **options: Any) -> Answer:
        answer = await super().call(op, *args, **options)
        if op == "load":
            await self.close()
        return answer


@asynccontextmanager
async def kept_ready(system: System) -> AsyncIterator[ModelHost]:
    """A voter at work."""
    models, stop = ModelHost("voter-0", system), asyncio.Event()
    keeping = asyncio.create_task(models.keep_ready(stop))
    try:
        async with asyncio.timeout(60):
            yield models
    finally:
        stop.set()
        await keeping
        await system.child.close()


async def until_readiness(models: ModelHost, detail: str) -> None:
    while models.readiness() != ("ready", detail):  # noqa: ASYNC110
        await asyncio.sleep(0.02)


@pytest.mark.usefixtures("own_child")
async def test_a_model_that_the_child_dies_of_keeps_no_other_accounts_from_being_loaded_and_is_left_alone_then(
    bench, settings, weights, redis, long_pause
) -> None:
    other = f"{bench.account}-other"  # comes after it
    await register(redis, other, owner="tests")
    dies = (await bench.serve({"voter-0": weights(0)})).champion.model_id
    lives = (await type(bench)(bench.system, other).serve({"voter-0": weights(1)})).champion.model_id
    child = Mortal(settings, dies)
    async with kept_ready(replace(bench.system, child=child)) as models:
        await until_readiness(models, "1 model, 1 broken")
        since = child.looks
        while child.looks < since + 20:  # noqa: ASYNC110
            await asyncio.sleep(0.02)
        assert models.readiness() == ("ready", "1 model, 1 broken")
        assert sorted(child.loads) == sorted([dies, lives])
    await redis.hdel(names.ACCOUNTS, other)
    await redis.delete(*[key async for key in redis.scan_iter(match=f"nvp:{{{other}}}:*")])


@pytest.mark.usefixtures("own_child")
async def test_a_candidate_that_the_child_dies_of_again_is_said_to_be_what_it_died_of(
    bench, settings, weights, redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(deadly, "FIRST_S", 0.0)
    record = await bench.serve({"voter-0": weights(0)})
    await redis.delete(names.key(bench.account, "models"))  # about to serve, and nothing does yet
    child = Mortal(settings, record.champion.model_id)
    change = switching.Switch(redis, bench.account, record.domain, "request-1")
    await change.begin()
    await change.announce(record)
    async with kept_ready(replace(bench.system, child=child)):
        while not (said := await redis.hgetall(names.key(bench.account, f"warm:{change.token}"))):  # noqa: ASYNC110
            await asyncio.sleep(0.02)
    ((_, why),) = said.items()
    assert why.decode().startswith("the compute child ended 2 times in a row while loading it: ")


@pytest.mark.usefixtures("own_child")
async def test_a_request_for_what_the_child_dies_of_is_refused_and_does_not_kill_it_again(
    bench, settings, weights, request_of, long_pause
) -> None:
    dies = (await bench.serve({"voter-0": weights(0)})).champion.model_id
    child = Mortal(settings, dies)
    system = replace(bench.system, child=child)
    models = ModelHost("voter-0", system)
    try:
        for _ in range(deadly.TELLING):  # the first may be chance
            with pytest.raises(ComputeFailed):
                await inference.answer(bench.delivery(request_of(), budget_mj=60_000), models, system)
        again = f"{dies} for [0-9 x]* is left alone for .* s: the compute child ended 2 times in a row"
        with pytest.raises(NotReady, match=again) as refused:
            await inference.answer(bench.delivery(request_of(), budget_mj=60_000), models, system)
        assert 500 < (refused.value.retry_after_s or 0) <= 600
        assert child.loads == [dies, dies]
    finally:
        await child.close()


@pytest.mark.usefixtures("own_child")
async def test_what_the_child_did_not_die_of_is_not_left_alone(bench, settings, weights, request_of) -> None:
    await bench.serve({"voter-0": weights(0)})
    system = replace(bench.system, child=Disturbed(compute_environment(settings)))
    models = ModelHost("voter-0", system)
    for _ in range(deadly.TELLING + 1):
        with pytest.raises(ComputeFailed, match="not loaded in this worker any more"):
            await inference.answer(bench.delivery(request_of(), budget_mj=60_000), models, system)
    await system.child.close()


@pytest.mark.usefixtures("own_child")
async def test_what_waited_to_be_loaded_while_the_child_died_is_loaded_once_and_for_nothing(
    bench, models: ModelHost, weights, request_of
) -> None:
    await bench.serve({"voter-0": weights(0)})
    child = bench.system.child
    async with child.turn("busy with others"):
        asking = asyncio.create_task(inference.answer(bench.delivery(request_of()), models, bench.system))
        while not models._warm._room.models:  # noqa: ASYNC110
            await asyncio.sleep(0.01)
        os.kill(child.pid or 0, signal.SIGKILL)
        assert child._process is not None
        await child._process.wait()
    answered = bench.said(await asking)
    assert isinstance(answered, PredictionCompleted)
    assert answered.energy.mj < 1000
    assert child.generation == 2


def test_each_death_in_a_row_doubles_how_long_a_model_is_left_alone_up_to_five_minutes() -> None:
    had, now, pauses = Deadly(), 1000.0, []
    for _ in range(10):
        died = had.died("a", KEY, "killed", now)
        pauses.append(died.until - now)
        now = died.until
    assert pauses == [2, 4, 8, 16, 32, 64, 128, 256, 300, 300]
    assert had.of("a", KEY) == died
    assert had.of("b", KEY) is None


def test_what_has_loaded_or_was_left_alone_for_long_begins_anew() -> None:
    had = Deadly()
    had.died("a", KEY, "killed", 0.0)
    had.loaded("a", KEY)
    assert had.of("a", KEY) is None
    later = had.died("a", KEY, "killed", 0.0).until + deadly.LONGEST_S
    assert had.died("b", KEY, "killed", later).times == 1
    assert had.of("a", KEY) is None
