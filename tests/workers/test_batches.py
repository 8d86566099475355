"""Who is in a batch is known once it begins: who is late by then is told so, costs nothing and hurts nobody."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from nvp_agentkit.artifacts import inline_array
from nvp_agentkit.errors import ChildDied, DeadlineExceeded
from nvp_agentkit.messages import PredictionCompleted
from nvp_agentkit.settings import compute_environment
from nvp_agentkit.workers import inference
from nvp_agentkit.workers.compute.front import Answer, ComputeChild
from nvp_agentkit.workers.serving.forecasting import ModelHost


@pytest.fixture
def ask(bench, models: ModelHost, request_of, field):
    """Ask for a forecast of a field of its own."""
    asked = 0

    async def one(**options) -> PredictionCompleted:
        nonlocal asked
        asked += 1
        delivery = bench.delivery(request_of(field=inline_array(field + asked, "J")), **options)
        answer = bench.said(await inference.answer(delivery, models, bench.system))
        assert isinstance(answer, PredictionCompleted)
        return answer

    return one


async def spent_mj(bench) -> int:
    balance = await bench.balance()
    assert balance.reserved_mj == 0
    return balance.spent_mj


async def waiting(models: ModelHost, count: int) -> None:
    """Until so many wait for a batch."""
    async with asyncio.timeout(20):
        while sum(map(len, models._batches._waiting.values())) != count:  # noqa: ASYNC110
            await asyncio.sleep(0.01)


async def test_who_is_late_when_the_batch_begins_is_told_so_at_the_deadline_for_nothing_and_the_others_are_answered(
    bench, models, weights, ask
) -> None:
    await bench.serve({"voter-0": weights(0)})
    ready = await ask()
    async with bench.system.child.turn("busy with others"):
        patient = asyncio.create_task(ask())
        with pytest.raises(DeadlineExceeded, match="did not come before its deadline, and nothing was forecast"):
            await ask(within_s=0.5)
        assert not patient.done()
    answered = await patient
    assert await spent_mj(bench) == ready.energy.mj + answered.energy.mj


async def test_who_is_late_once_the_batch_has_begun_pays_a_share_of_it_and_is_told_so(
    bench, own_child, models, weights, ask
) -> None:
    await bench.serve({"voter-0": weights(0)})
    ready = await ask()
    async with bench.system.child.turn("busy with others"):
        late, patient = (asyncio.create_task(ask(within_s=within_s)) for within_s in (1.5, 60.0))
        await waiting(models, 2)
        os.kill(bench.system.child.pid, signal.SIGSTOP)
    await waiting(models, 0)
    done, _ = await asyncio.wait({late}, timeout=1.6)
    assert not done, "what it costs was not known yet"
    os.kill(bench.system.child.pid, signal.SIGCONT)
    with pytest.raises(DeadlineExceeded, match=r"had begun in time and ended \d+\.\d+ s after its deadline"):
        await late
    shared = (await patient).energy.mj
    assert await spent_mj(bench) == ready.energy.mj + 2 * shared
    assert bench.system.child.generation == 1


async def test_a_model_that_is_not_ready_in_time_is_no_reason_to_wait_beyond_it(bench, models, weights, ask) -> None:
    await bench.serve({"voter-0": weights(0)})
    async with bench.system.child.turn("busy with others"):
        with pytest.raises(DeadlineExceeded, match="load: its turn did not come before its deadline"):
            await ask(within_s=0.5)
    assert await spent_mj(bench) == 0
    await ask()


async def test_whose_asker_is_gone_is_left_out_of_the_batch(bench, models, weights, ask) -> None:
    await bench.serve({"voter-0": weights(0)})
    await ask()
    async with bench.system.child.turn("busy with others"):
        gone, stays = asyncio.create_task(ask()), asyncio.create_task(ask())
        await waiting(models, 2)
        gone.cancel()
        with pytest.raises(asyncio.CancelledError):
            await gone
    await stays
    assert models._batches._waiting == {}


async def test_who_waits_while_the_child_dies_of_another_one_is_answered_by_the_next_child(
    bench, own_child, models, weights, ask
) -> None:
    await bench.serve({"voter-0": weights(0)})
    await ask()
    async with bench.system.child.turn("busy with others"):
        asking = [asyncio.create_task(ask()) for _ in range(2)]
        await waiting(models, 2)
        os.kill(bench.system.child.pid, signal.SIGKILL)
        await bench.system.child._process.wait()
    for told in await asyncio.gather(*asking):
        assert told.cached is None
    assert bench.system.child.generation == 2


class Brittle(ComputeChild):
    """A compute child that dies of one field."""

    deadly = 1e6

    async def call(self, op: str, params: Mapping[str, Any], arrays: Any = (), **options: Any) -> Answer:
        if op == "predict" and any(np.max(frames) > self.deadly for frames in arrays[0]):
            os.kill(self.pid, signal.SIGKILL)
        return await super().call(op, params, arrays, **options)


async def test_what_killed_the_child_takes_nobody_with_it_a_second_time(
    bench, own_child, settings, weights, request_of, field
) -> None:
    await bench.serve({"voter-0": weights(0)})
    system = replace(bench.system, child=Brittle(compute_environment(settings)))
    models = ModelHost("voter-0", system)
    kills, harmless = (bench.delivery(request_of(field=inline_array(field + more, "J"))) for more in (1e7, 1.0))

    async def both() -> list[Any]:
        async with system.child.turn("busy with others"):
            asking = [asyncio.create_task(inference.answer(one, models, system)) for one in (kills, harmless)]
            await waiting(models, 2)
        return await asyncio.gather(*asking, return_exceptions=True)

    try:
        await inference.answer(bench.delivery(request_of()), models, system)
        assert [type(one) for one in await both()] == [ChildDied, ChildDied]
        await inference.answer(bench.delivery(request_of(field=inline_array(field + 2, "J"))), models, system)
        kills.attempt = harmless.attempt = 2
        died, answered = await both()
        assert type(died) is ChildDied
        assert isinstance(bench.said(answered), PredictionCompleted)
    finally:
        await system.child.close()
