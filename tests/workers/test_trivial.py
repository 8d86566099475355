"""A first forecast where nothing was trained: asked for, or standing in; paid for and on record like any other."""

from __future__ import annotations

import numpy as np
import pytest

from nvp_agentkit.artifacts import inline_array
from nvp_agentkit.cli.inspect import decision_lines
from nvp_agentkit.errors import BudgetTooSmall, InvalidInput, UnknownModel
from nvp_agentkit.fields.first_forecast import trivial_forecast
from nvp_agentkit.lineage import queries
from nvp_agentkit.lineage.graph import Graph
from nvp_agentkit.messages import PredictionCompleted
from nvp_agentkit.streams import Completion
from nvp_agentkit.workers import inference
from nvp_agentkit.workers.serving import registry


async def completed(bench, models, request, **options) -> PredictionCompleted:
    answer = bench.said(await inference.answer(bench.delivery(request, **options), models, bench.system))
    assert isinstance(answer, PredictionCompleted)
    return answer


async def test_any_domain_has_a_first_forecast_in_the_units_that_were_said(bench, models, request_of, three) -> None:
    request = request_of(domain="weather", model="trivial", field=inline_array(three, "mm/h"))
    answer = await completed(bench, models, request)
    expected = trivial_forecast(three)
    assert answer.model_id == f"trivial:{expected.name}"
    assert (answer.mean.units, answer.log_var.units) == ("mm/h", "ln (mm/h)^2")
    np.testing.assert_array_equal(await bench.system.artifacts.get_array(answer.mean), expected.mean)
    np.testing.assert_array_equal(await bench.system.artifacts.get_array(answer.log_var), expected.log_var)
    balance = await bench.balance()
    assert (balance.spent_mj, balance.reserved_mj) == (answer.energy.mj, 0)
    assert 0 < answer.energy.mj < 5000


async def test_a_forecaster_can_be_asked_by_the_id_it_answered_with(bench, models, request_of) -> None:
    asked = "trivial:linear_extrapolation"
    assert (await completed(bench, models, request_of(domain="weather", model=asked))).model_id == asked
    with pytest.raises(UnknownModel, match="no trivial forecaster 'astrology'; there are persistence"):
        await completed(bench, models, request_of(domain="weather", model="trivial:astrology"))
    with pytest.raises(UnknownModel, match="no model 'trivail'; give 'trivial' or 'starter'"):
        await completed(bench, models, request_of(domain="weather", model="trivail"))


async def test_it_stands_in_where_a_simulator_knows_the_domain_until_an_ensemble_is_there(
    bench, models, weights, request_of
) -> None:
    first = await completed(bench, models, request_of())
    assert first.model_id == "trivial:advection"
    record = await bench.serve({"voter-0": weights(0)})
    assert (await completed(bench, models, request_of())).model_id == record.champion.model_id
    assert (await completed(bench, models, request_of(model="trivial"))).model_id == first.model_id


async def test_nothing_stands_in_for_a_model_that_was_named_a_domain_nobody_knows_or_an_ensemble_that_is_broken(
    bench, models, request_of
) -> None:
    with pytest.raises(UnknownModel, match=r"nvp\.train\('alchemy'.* or ask for a first forecast .*model='trivial'"):
        await completed(bench, models, request_of(domain="alchemy"))
    with pytest.raises(UnknownModel, match="no model for 'plasma_phisics', did you mean 'plasma_physics'; train one"):
        await completed(bench, models, request_of(domain="plasma_phisics"))
    with pytest.raises(UnknownModel, match="no model for 'plasma_physics'"):
        await completed(bench, models, request_of(model="model:sha256:nobodys"))
    await bench.complete(Completion(fields=((registry.SUFFIX, "plasma_physics", "{no record"),)))
    with pytest.raises(UnknownModel, match="cannot be read; train it again"):
        await completed(bench, models, request_of())
    assert (await bench.balance()).spent_mj == 0


async def test_no_quorum_is_had_of_it(bench, models, court, request_of) -> None:
    for request, error in ((request_of(), UnknownModel), (request_of(model="trivial"), InvalidInput)):
        asked = bench.delivery(request, suffix="ensemble")
        with pytest.raises(error):
            await court.vote(asked, "voter-0")


@pytest.mark.usefixtures("own_child")
async def test_a_budget_that_will_not_do_is_refused_before_it_is_computed(bench, models, request_of) -> None:
    with pytest.raises(BudgetTooSmall, match="a forecast of 32x32 takes about"):
        await completed(bench, models, request_of(domain="weather", model="trivial"), budget_mj=1)
    assert bench.system.child.pid is None
    assert (await bench.balance()).spent_mj == 0


async def test_it_can_be_traced_from_the_request(bench, models, request_of, graph) -> None:
    delivery = bench.delivery(request_of(domain="weather", model="trivial"))
    completion = await inference.answer(delivery, models, bench.system)
    async with Graph.connect(bench.system.settings) as connected:
        await connected.write([fact.payload for fact in completion.facts])
        found = await queries.decision(connected, delivery.request_id)
        origin = await queries.ancestry(connected, "trivial:advection")
    assert found.models == ("trivial:advection",)
    assert "  answered by trivial:advection" in decision_lines(found)
    assert (origin.start["name"], origin.start["params"]) == ("advection", 0)
    assert found.paid_by == (bench.account,)
