"""Nine: joules. What a model cost, with all that it was made of, and a ledger that agrees with the graph."""

from __future__ import annotations

import asyncio

from nvp_agentkit.lineage import queries


async def test_a_model_cost_its_training_and_its_data(agent, graph, dataset, ensemble) -> None:
    async with agent() as nvp:
        await nvp.recorded()
    cost = await queries.joules_of(graph, ensemble.job.members[0].model_id)
    by_phase = {one.phase: one for one in cost}
    assert by_phase["train"].mj == ensemble.job.energy.mj
    assert by_phase["simulate"].mj >= dataset.job.energy.mj  # the tour has simulated it twice
    for one in cost:
        assert one.lo_mj <= one.mj <= one.hi_mj  # never a figure without its bounds and its method


async def test_ledger_and_graph_tell_the_same_sum(agent, ledger, graph, ensemble) -> None:
    async with agent() as nvp, asyncio.timeout(60):
        while (balance := await ledger.balance("ace-1")).reserved_mj:  # noqa: ASYNC110  a vote on its way
            await asyncio.sleep(0.05)
        await nvp.recorded()
    statement = await queries.account_statement(graph, "ace-1")
    assert sum(line.mj for line in statement.lines) == balance.spent_mj
    assert balance.overdraft_mj == 0
    assert balance.spent_mj <= balance.limit_mj
