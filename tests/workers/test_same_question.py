"""One question is computed once: together, again, and by another worker."""

from __future__ import annotations

import asyncio

import numpy as np
import pytest

from nvp_agentkit.artifacts import inline_array
from nvp_agentkit.errors import BudgetTooSmall, DeadlineExceeded, StoreUnavailable
from nvp_agentkit.messages import PredictionCompleted
from nvp_agentkit.streams import names
from nvp_agentkit.workers import inference, joules
from nvp_agentkit.workers.serving.forecasting import ModelHost


async def asked(bench, models: ModelHost, request, **options) -> PredictionCompleted:
    """The answer, once its completion has happened."""
    completion = await inference.answer(bench.delivery(request, **options), models, bench.system)
    await bench.complete(completion)
    answer = bench.said(completion)
    assert isinstance(answer, PredictionCompleted)
    return answer


async def test_what_is_asked_at_the_same_time_is_computed_and_charged_once(
    bench, models, weights, request_of, field
) -> None:
    await bench.serve({"voter-0": weights(0)})
    other = request_of(field=inline_array(field + np.float32(1.0), "J"))
    one, same, differs = await asyncio.gather(*(asked(bench, models, it) for it in (request_of(), request_of(), other)))
    assert one.cached is None
    assert same.cached == one.request_id != same.request_id
    assert (same.mean, same.log_var, same.model_id) == (one.mean, one.log_var, one.model_id)
    assert (same.energy.mj, differs.cached) == (0, None)
    assert (await bench.balance()).spent_mj == one.energy.mj + differs.energy.mj


async def test_two_entries_of_one_request_have_its_answer_and_neither_is_another_requests(
    bench, models, weights, request_of
) -> None:
    await bench.serve({"voter-0": weights(0)})
    first = bench.delivery(request_of())
    again = bench.delivery(request_of(), event=first.event)
    both = await asyncio.gather(*(inference.answer(one, models, bench.system) for one in (first, again)))
    one, other = map(bench.said, both)
    assert one == other
    assert one.cached is None
    assert (await bench.balance()).spent_mj == one.energy.mj > 0


async def test_what_was_answered_is_answered_again_by_any_worker_and_on_record_as_that(
    bench, models, weights, request_of, redis
) -> None:
    await bench.serve({"voter-0": weights(0)})
    first = await asked(bench, models, request_of())
    again = bench.delivery(request_of(), budget_mj=1)
    completion = await inference.answer(again, ModelHost("voter-0", bench.system), bench.system)
    answer = bench.said(completion)
    assert (answer.cached, answer.request_id) == (first.request_id, again.request_id)
    assert completion.fields == ()
    (fact,) = completion.facts
    nodes = {node.label: node.properties for node in fact.payload.nodes}
    assert nodes["Decision"]["outcome"] == "cached"
    assert nodes["Decision"]["reason"] == f"the answer to request {first.request_id}"
    assert {edge.type for edge in fact.payload.edges} == {"WAS_ATTRIBUTED_TO", "WAS_DERIVED_FROM"}
    assert (await bench.balance()).spent_mj == first.energy.mj
    third = await asked(bench, models, request_of(inline_answer=True))
    assert third.cached == first.request_id
    assert third.mean.inline is not None
    assert third.mean.digest == first.mean.digest
    await redis.delete(names.answers(bench.account, first.request_id))  # replies are not kept for ever
    assert (await asked(bench, models, request_of())).cached is None


async def test_an_attempt_that_failed_before_the_answer_was_there_costs_what_it_used(
    bench, models, weights, request_of
) -> None:
    await bench.serve({"voter-0": weights(0)})
    first = await asked(bench, models, request_of())
    again = bench.delivery(request_of())
    with pytest.raises(StoreUnavailable):
        async with joules.window(bench.system, again, part="voter-0", parts=1):
            raise StoreUnavailable("no artifacts")
    assert (await asked(bench, models, request_of(), event=again.event, attempt=2)).cached == first.request_id
    balance = await bench.balance()
    assert (balance.spent_mj, balance.reserved_mj) == (first.energy.mj, 0)  # and nothing is left to be reaped


async def test_another_ensemble_is_another_question_and_units_left_away_are_its_own(
    bench, models, weights, request_of, field
) -> None:
    await bench.serve({f"voter-{seed}": weights(seed) for seed in range(3)})
    first = await asked(bench, models, request_of())
    assert (await asked(bench, models, request_of(field=inline_array(field)))).cached  # said nothing: the model's
    await bench.serve({f"voter-{seed}": weights(seed + 1) for seed in range(3)})
    second = await asked(bench, models, request_of())
    assert (second.cached, second.model_id == first.model_id) == (None, False)


async def test_who_waits_for_an_answer_that_fails_computes_it(bench, models, weights, request_of) -> None:
    await bench.serve({"voter-0": weights(0)})
    poor, rich = await asyncio.gather(
        asked(bench, models, request_of(), budget_mj=1), asked(bench, models, request_of()), return_exceptions=True
    )
    assert isinstance(poor, BudgetTooSmall)
    assert rich.cached is None


async def test_nobody_waits_for_anothers_answer_beyond_his_deadline(bench, models, request_of) -> None:
    computing, begun = asyncio.Event(), asyncio.Event()

    async def compute() -> PredictionCompleted:
        begun.set()
        await computing.wait()
        raise BudgetTooSmall("in the end", needed_mj=1)

    patient = asyncio.create_task(models.questions.once(bench.delivery(request_of()), "q", compute))
    await begun.wait()
    with pytest.raises(DeadlineExceeded, match="is being answered, and took longer"):
        await models.questions.once(bench.delivery(request_of(), within_s=0.05), "q", compute)
    computing.set()
    with pytest.raises(BudgetTooSmall):
        await patient
