"""Five: a forecast. One frame ahead, with its uncertainty and its price."""

from __future__ import annotations

import numpy as np

from nvp_agentkit.lineage import queries


async def test_a_forecast_is_a_mean_and_a_spread_for_every_cell(agent, ensemble, field) -> None:
    async with agent() as nvp:
        forecast = await nvp.predict(field, domain="plasma_physics", budget_j=1)
    assert forecast.mean.shape == forecast.std.shape == (32, 32)
    assert np.isfinite(forecast.mean).all()
    assert (forecast.std > 0).all()
    # In the units that the models learnt, from the champion, for a price with its method.
    assert forecast.units == "n0 Te (rho_s/L_n)^2"
    assert list(forecast.models.values()) == [ensemble.job.members[0].model_id]
    assert 0 < forecast.energy.mj <= 1000


async def test_a_first_forecast_needs_no_training(agent, graph, field) -> None:
    async with agent() as nvp:
        forecast = await nvp.predict(field, domain="weather", model="trivial", units="mm/h", budget_j=1)
        await nvp.recorded()
    assert forecast.models == {"trivial": "trivial:advection"}  # from two frames; from three, the best of four
    assert (forecast.units, forecast.trained) == ("mm/h", False)
    found = await queries.decision(graph, forecast.request_id)
    assert (found.models, found.paid_by) == (("trivial:advection",), ("ace-1",))


async def test_asking_again_is_answered_the_same_and_costs_nothing(agent, ensemble, field) -> None:
    async with agent() as nvp:
        first, second = [await nvp.predict(field, domain="plasma_physics", budget_j=1) for _ in range(2)]
    assert first.request_id != second.request_id
    np.testing.assert_array_equal(first.mean, second.mean)
    assert second.cached == (first.cached or first.request_id)
    assert second.energy.mj == 0


async def test_any_member_can_be_asked_by_its_id(agent, ensemble, field) -> None:
    other = ensemble.job.members[2].model_id
    async with agent() as nvp:
        # Nobody keeps it ready for single requests, so the first one has to afford its loading.
        forecast = await nvp.predict(field, domain="plasma_physics", model=other, budget_j=30, deadline_s=120)
    assert list(forecast.models.values()) == [other]
