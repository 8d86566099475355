"""What the graph answers about one small history: data, three models, one quorum request."""

from __future__ import annotations

import pytest

from nvp_agentkit.errors import InvalidInput, UnknownAccount, UnknownDomain, UnknownName
from nvp_agentkit.lineage import edges, nodes, queries
from nvp_agentkit.lineage.answers import Joules


@pytest.fixture
async def told(lineage, history):
    await lineage.write(history.bundles())
    return history


async def test_ancestry_names_what_a_model_was_made_from(lineage, told):
    champion = told.models[0]
    found = await queries.ancestry(lineage, champion.id)
    assert (found.start.id, found.start["params"]) == (champion.id, 30_000)
    assert [thing.id for thing in found.labelled("DatasetVersion")] == [told.data.id]
    assert {thing["kind"] for thing in found.labelled("Run")} == {"train", "simulate"}
    assert {thing["name"] for thing in found.labelled("Agent")} == {"training"}
    assert len(found.labelled("Config", "CodeVersion", "Environment")) == 4
    (run,) = found.earlier(champion.id, "WAS_GENERATED_BY")
    assert [thing.id for thing in found.earlier(run.id, "USED", "DatasetVersion")] == [told.data.id]
    assert not {thing.id for thing in found.things} & {model.id for model in told.models[1:]}


async def test_joules_of_a_model_include_its_data_and_keep_methods_apart(lineage, told):
    assert await queries.joules_of(lineage, told.models[2].id) == (
        Joules("simulate", "modelled", 40_000, 20_000, 80_000, 1),
        Joules("train", "measured", 100_002, 50_001, 200_004, 1),
    )


async def test_descendants_of_data_reach_down_to_the_decision(lineage, told):
    found = await queries.descendants(lineage, told.data.id)
    counts = {label: len(found.labelled(label)) for label in ("ModelVersion", "Vote", "Decision", "Config", "Agent")}
    assert counts == {"ModelVersion": 3, "Vote": 3, "Decision": 1, "Config": 0, "Agent": 0}


async def test_a_model_that_was_only_outvoted_taints_the_decision_it_voted_in(lineage, told):
    found = await queries.descendants(lineage, told.models[2].id)
    assert [thing.id for thing in found.labelled("Decision")] == [told.decision.id]


async def test_a_recipe_holds_all_it_takes_to_make_a_model_again(lineage, told):
    recipe = await queries.reproduce(lineage, told.models[1].id)
    assert (recipe.configs, recipe.seeds, recipe.missing) == (({"width": 24},), (1,), ())
    assert recipe.code is not None
    assert recipe.environment is not None
    assert (recipe.code["commit"], recipe.environment["jax"]) == ("c0ffee", "0.10.2")
    assert [(thing.id, thing["uri"]) for thing in recipe.inputs] == [(told.data.id, told.data.properties["uri"])]
    assert (await queries.reproduce(lineage, told.data.id)).configs == ({"trajectories": 12},)


async def test_a_recipe_says_what_is_missing(lineage):
    facts, model = edges.Facts(), nodes.node("ModelVersion", "model:x")
    run = nodes.node("Run", "run:x")
    facts.link(edges.was_generated_by(model, run), edges.used(run, nodes.node("DatasetVersion", "dataset:x")))
    await lineage.write([facts.bundle()])
    recipe = await queries.reproduce(lineage, "model:x")
    assert recipe.missing == ("config", "code", "environment", "bytes of dataset:x")
    bare = await queries.reproduce(lineage, "dataset:x")
    assert bare.missing == ("run", "config", "code", "environment")


async def test_a_decision_tells_who_asked_who_voted_what_and_who_paid(lineage, told):
    answer = await queries.decision(lineage, told.request_id)
    assert (answer.decision["outcome"], answer.decision["quorum"]) == ("certified", 2)
    assert (answer.asked_by, answer.decided_by, answer.paid_by) == ("ace:ace-1", "worker:tally", ("ace-1",))
    assert answer.models == tuple(model.id for model in told.models[:2])
    assert [(ballot.voter, ballot.model_id, ballot.dissent, ballot.signature) for ballot in answer.ballots] == [
        (f"voter-{k}", told.models[k].id, k == 2, f"s{k}") for k in range(3)]
    assert answer.joules == (Joules("predict", "modelled", 1_503, 751, 3_006, 3),)


async def test_a_request_id_that_two_accounts_used_needs_the_account(lineage, told):
    facts = edges.Facts()
    other = nodes.decision("ace-2", told.request_id, outcome="abstained", at_ms=1, reason="two of three differed")
    facts.link(edges.was_attributed_to(facts.add(other), facts.add(nodes.agent("ace-2", "ace"))))
    await lineage.write([facts.bundle()])
    with pytest.raises(InvalidInput, match="2 accounts used the request id"):
        await queries.decision(lineage, told.request_id)
    answer = await queries.decision(lineage, told.request_id, account="ace-2")
    assert (answer.decision["outcome"], answer.ballots, answer.paid_by) == ("abstained", (), ())


async def test_of_a_request_that_was_replayed_the_newest_answer_counts(lineage, told):
    """Facts never change: the refusal of its first life stays beside it."""
    facts = edges.Facts()
    for again, outcome in ((0, "refused"), (2, "single")):
        answer = facts.add(nodes.decision("ace-3", "twice", again=again, outcome=outcome, at_ms=1 + again))
        facts.link(edges.was_attributed_to(answer, facts.add(nodes.agent("ace-3", "ace"))))
    await lineage.write([facts.bundle()])
    assert (await queries.decision(lineage, "twice", account="ace-3")).decision["outcome"] == "single"
    assert (await queries.decision(lineage, "twice")).decision["at_ms"] == 3


async def test_an_unanswered_request_is_unknown(lineage, told):
    with pytest.raises(UnknownName, match="knows no decision on request 'nope'"):
        await queries.decision(lineage, "nope")


async def test_a_statement_splits_an_account_by_phase_and_method(lineage, told):
    statement = await queries.account_statement(lineage, told.account)
    assert (statement.account["limit_mj"], statement.account["owner"]) == (1_000_000, "tests")
    assert statement.lines == (
        Joules("predict", "modelled", 1_503, 751, 3_006, 3),
        Joules("simulate", "modelled", 40_000, 20_000, 80_000, 1),
        Joules("train", "measured", 100_002, 50_001, 200_004, 1),
        Joules("train", "modelled", 200_001, 100_000, 400_002, 2),
    )
    recent = await queries.account_statement(lineage, told.account, since_ms=8_000)
    assert [line.phase for line in recent.lines] == ["predict"]
    assert (await queries.account_statement(lineage, told.account, since_ms=10_000)).lines == ()


async def test_a_statement_of_nobody_is_refused(lineage):
    with pytest.raises(UnknownAccount, match="knows no account 'ace-9'"):
        await queries.account_statement(lineage, "ace-9")


async def test_the_best_model_is_the_one_with_the_lowest_error(lineage, told):
    best = await queries.best_model(lineage, "plasma_physics")
    assert (best.model.id, best.value, best.passed_over) == (told.models[0].id, 0.2, ())
    worst = await queries.best_model(lineage, "plasma_physics", higher_is_better=True)
    assert worst.model.id == told.models[2].id


async def test_tainted_data_leaves_no_best_model(lineage, told):
    await lineage.write([told.asserted(told.data, "tainted", "true", valid_ms=1, recorded_ms=2)])
    with pytest.raises(UnknownDomain, match=r"no untainted model .* \(3 tainted\); train one"):
        await queries.best_model(lineage, "plasma_physics")
    with pytest.raises(UnknownDomain, match="'rain'"):
        await queries.best_model(lineage, "rain")


async def test_status_is_answered_as_it_was_known_then(lineage, told):
    for value, valid_ms, recorded_ms in (("spawn", 10, 10), ("retired", 30, 30), ("plan", 20, 40)):
        await lineage.write([told.asserted(told.asker, "stage", value, valid_ms=valid_ms, recorded_ms=recorded_ms)])

    async def stage(**times: int) -> str | None:
        return (await queries.status(lineage, "stage", **times)).get(told.asker.id)

    assert await stage() == "retired"
    assert await stage(valid_at_ms=25) == "plan"  # as we know now
    assert await stage(valid_at_ms=25, known_at_ms=35) == "spawn"  # as it was known then
    assert await stage(known_at_ms=5) is None
