"""Seven: refusals. Every no is an exception of a class, says the value, the limit and the remedy, and costs nothing."""

from __future__ import annotations

import numpy as np
import pytest

from nvp_agentkit.errors import BudgetTooSmall, InsufficientJoules, InvalidField, UnknownDomain, UnknownModel


async def test_each_refusal_is_clear_and_free(agent, ledger, dataset, ensemble, field) -> None:
    before = (await ledger.balance("ace-1")).spent_mj
    broken = field.copy()
    broken[-1, 3, 4] = np.nan
    other = field + np.float32(1.0)  # nobody has asked about it: what was answered before costs nothing
    async with agent() as nvp:
        with pytest.raises(InvalidField, match=r"1 values of 2,048 that are NaN.* fill or cut them before asking"):
            await nvp.predict(broken, domain="plasma_physics", budget_j=5)
        with pytest.raises(InsufficientJoules, match=r"account ace-1: 5,000\.0 J asked, .* J left; lower `budget_j`"):
            await nvp.predict(other, domain="plasma_physics", budget_j=5000)
        with pytest.raises(BudgetTooSmall, match=r"raise `budget_j` to"):
            await nvp.predict(other, domain="plasma_physics", budget_j=0.001)
        with pytest.raises(UnknownModel, match=r"no model for 'weather'; train one: nvp\.train\('weather'"):
            await nvp.predict(field, domain="weather", budget_j=5)
        with pytest.raises(InvalidField, match="field in 'kelvin', and the ensemble of plasma_physics learnt it in"):
            await nvp.predict(field, domain="plasma_physics", units="kelvin", budget_j=5)
        with pytest.raises(UnknownDomain, match=r"known: heat_diffusion, .*, or import a file"):
            await (await nvp.simulate("weather", budget_j=60)).result()
        with pytest.raises(BudgetTooSmall, match="whose champion sees all data once takes about") as caught:
            await (await nvp.train("plasma_physics", data=dataset.ref, budget_j=0.5)).result()
    assert caught.value.needed_mj > 500  # so an agent can decide whether it is worth that
    assert (await ledger.balance("ace-1")).spent_mj == before


async def test_a_quorum_request_is_refused_once_whatever_the_number_of_voters(agent, field, ensemble) -> None:
    async with agent() as nvp:
        with pytest.raises(InvalidField, match="kelvin"):
            await nvp.predict(field, domain="plasma_physics", units="kelvin", assurance="quorum", budget_j=5)
