"""Eight: lineage. Everything that happened is a graph, and the graph answers by name."""

from __future__ import annotations

import pytest

from nvp_agentkit.lineage import queries


async def test_a_decision_knows_who_asked_who_voted_and_who_paid(agent, graph, ensemble, field) -> None:
    async with agent() as nvp:
        forecast = await nvp.predict(field, domain="plasma_physics", assurance="quorum", budget_j=5)
        await nvp.recorded()  # facts follow a moment behind the answer: wait for one's own
    found = await queries.decision(graph, forecast.request_id)
    assert found.decision["outcome"] == "certified"
    assert (found.asked_by, found.paid_by) == ("ace:ace-1", ("ace-1",))
    agreed = {ballot.voter for ballot in found.ballots if ballot.dissent is False}
    assert agreed >= set(forecast.agreed)  # a vote that came after the decision is judged as well
    assert {ballot.model_id for ballot in found.ballots} <= {member.model_id for member in ensemble.job.members}


async def test_a_model_knows_all_it_was_made_of(agent, graph, dataset, ensemble) -> None:
    async with agent() as nvp:
        await nvp.recorded()
    origin = await queries.ancestry(graph, ensemble.job.members[0].model_id)
    assert {run["kind"] for run in origin.labelled("Run")} == {"simulate", "train"}
    assert [data["uri"] for data in origin.labelled("DatasetVersion")] == [dataset.ref.uri]
    (code,) = origin.labelled("CodeVersion")
    assert code["version"]
    (machine,) = origin.labelled("Environment")
    assert machine["jax"]
    assert {config["seed"] for config in origin.labelled("Config")} >= {7}  # of the simulation


async def test_a_refusal_is_on_record_as_well(agent, graph, ensemble, field) -> None:
    async with agent() as nvp:
        with pytest.raises(LookupError):
            await nvp.predict(field, domain="weather", budget_j=1)
        await nvp.recorded()
    rows = await graph.rows("MATCH (d:Decision {outcome: 'refused'}) RETURN d.reason AS reason")
    assert any("has no model for 'weather'" in row["reason"] for row in rows)
