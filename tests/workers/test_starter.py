"""A first forecast by the network that ships with the package: no training, no ensemble, paid for and on record."""

from __future__ import annotations

import numpy as np
import pytest

from nvp_agentkit.artifacts import Artifacts, inline_array
from nvp_agentkit.client.answer import Reader
from nvp_agentkit.client.forecast import Axes
from nvp_agentkit.errors import BudgetTooSmall, InvalidInput
from nvp_agentkit.messages import PredictionCompleted
from nvp_agentkit.training import Parent
from nvp_agentkit.workers import inference

BUDGET_MJ = 40_000


async def test_any_domain_has_a_first_forecast_by_it_paid_for_and_on_record(
    bench, models, request_of, three, field
) -> None:
    request = request_of(domain="weather", model="starter", field=inline_array(three, "mm/h"))
    delivery = bench.delivery(request, budget_mj=BUDGET_MJ)
    completion = await inference.answer(delivery, models, bench.system)
    answer = bench.said(completion)
    assert isinstance(answer, PredictionCompleted)
    mean, log_var = [await bench.system.artifacts.get_array(ref) for ref in (answer.mean, answer.log_var)]
    assert (answer.mean.units, answer.log_var.units) == ("mm/h", "ln (mm/h)^2")
    missed = np.abs(mean - np.roll(three[-1], 2, 1))
    assert missed.mean() < 0.6 * np.abs(three[-1] - three[-2]).mean()
    assert 0.7 < np.mean(missed < 1.645 * np.exp(log_var / 2)) <= 1  # of cells in the 90% interval

    # Under the id that its descendants name as their parent, with its name, which no training has recorded.
    assert answer.model_id == Parent.read("starter").model_id
    (fact,) = completion.facts
    (node,) = (node for node in fact.payload.nodes if node.label == "ModelVersion")
    assert (node.id, node.properties["name"]) == (answer.model_id, "starter")
    assert answer.model_id in [edge.to_id for edge in fact.payload.edges if edge.type == "WAS_DERIVED_FROM"]
    balance = await bench.balance()
    assert (balance.spent_mj, balance.reserved_mj) == (answer.energy.mj, 0)

    # Who asks next pays no compilation; of one frame, too, there is a forecast.
    again = bench.said(await inference.answer(bench.delivery(request, budget_mj=BUDGET_MJ), models, bench.system))
    assert again.energy.mj < 0.2 * answer.energy.mj
    told = await forecast_of(bench.system.artifacts, bench, request, again)
    assert (told.trained, told.models) == (False, {"starter": answer.model_id})
    assert "by the starter model, not calibrated" in str(told)
    alone = request_of(domain="weather", model="starter", field=inline_array(field[0], "mm/h"))
    single = bench.said(await inference.answer(bench.delivery(alone, budget_mj=BUDGET_MJ), models, bench.system))
    assert single.mean.shape == field[0].shape


async def forecast_of(artifacts: Artifacts, bench, request, answer: PredictionCompleted):
    reader = Reader(artifacts, bench.system.settings.keys_dir / "root.pub", bench.system.settings.max_cells)
    return await reader.read(answer, request, Axes(None, None, None))


async def test_a_budget_that_does_not_pay_for_compiling_is_refused_before_anything_is_done(
    bench, models, request_of
) -> None:
    with pytest.raises(BudgetTooSmall, match="a forecast of 32x32 takes about"):
        await inference.answer(bench.delivery(request_of(model="starter"), budget_mj=1000), models, bench.system)
    assert (await bench.balance()).spent_mj == 0


async def test_no_quorum_is_had_of_it(bench, court, request_of) -> None:
    asked = bench.delivery(request_of(model="starter", assurance="quorum"), suffix="ensemble")
    with pytest.raises(InvalidInput, match="leave `model` away"):
        await court.vote(asked, "voter-0")
