"""``nvp lineage``: who asked, who voted, who paid; and where a model comes from."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime

import pytest

from nvp_agentkit.cli.demo.lineage import decision
from nvp_agentkit.cli.inspect import short
from nvp_agentkit.lineage import edges, nodes
from nvp_agentkit.lineage.answers import Ballot, Decided
from nvp_agentkit.lineage.graph import Graph
from nvp_agentkit.lineage.walk import Thing
from nvp_agentkit.messages import LineageRecorded, ObjectRef, Reading
from nvp_agentkit.settings import Settings

NOW_MS = round(datetime(2026, 1, 1, tzinfo=UTC).timestamp() * 1000)
MODEL, LONE = "model:sha256:" + 64 * "a", "model:sha256:" + 64 * "c"


def decided(account: str, request_id: str) -> LineageRecorded:
    """A request that three voted on: one agrees, one dissents, one is not judged."""
    facts = edges.Facts()
    decision = facts.add(nodes.decision(account, request_id, outcome="certified", at_ms=NOW_MS))
    facts.link(edges.was_attributed_to(decision, facts.add(nodes.agent(account, "ace"))))
    for voter, dissent in (("voter-0", False), ("voter-1", True), ("voter-2", None)):
        vote = facts.add(nodes.vote(account, request_id, voter, at_ms=NOW_MS, dissent=dissent))
        reading = Reading(mj=500, lo_mj=200, hi_mj=1200, method="modelled", sensor="cpu-time")
        spent = facts.add(nodes.energy_reading(vote, reading, phase="vote"))
        payer = facts.add(nodes.energy_account(account))
        facts.link(edges.vote_in(vote, decision), edges.metered(vote, spent), edges.charged_to(spent, payer))
    return facts.bundle()


@pytest.fixture
async def lineage(
    graph: object, settings: Settings, nvp: Callable, monkeypatch: pytest.MonkeyPatch
) -> Callable[..., object]:
    """``nvp lineage`` on a graph that knows a request of ace-1, one id that two accounts used, and a model."""
    made = edges.Facts()
    for model, name in ((MODEL, "one"), (MODEL[:-1] + "b", "other"), (LONE, "lone")):
        ref = ObjectRef(uri="artifact:x", digest=model.removeprefix("model:"), bytes=1)
        made.add(nodes.model_version(ref, name=name))
    async with Graph.connect(settings) as written:
        await written.write([decided("ace-1", "request-1"), *(decided(who, "shared") for who in ("ace-1", "ace-2"))])
        await written.write([made.bundle()])
    for name in ("data_dir", "redis_url", "neo4j_uri", "neo4j_user", "neo4j_password", "neo4j_database"):
        monkeypatch.setenv(f"NVP_{name.upper()}", str(getattr(settings, name)))
    return lambda *words: nvp("lineage", *words)


def test_a_request_is_told_with_its_votes_and_their_price(lineage) -> None:
    said = lineage("request-1").out
    assert "request request-1: certified" in said
    assert "asked by ace:ace-1, paid by ace-1" in said
    for voter, verdict in (("voter-0", "agrees"), ("voter-1", "dissents"), ("voter-2", "is not judged")):
        assert f"{voter} {verdict} " in said
    assert "vote: 1.5 J modelled (0.6 J to 3.6 J)" in said
    assert len(lineage("request-1", "--json").json["ballots"]) == 3


def test_a_model_is_told_with_what_it_was_made_of(lineage) -> None:
    assert "ModelVersion    model:aaaaaaaaaaaa  name one" in lineage(MODEL).out


def test_a_model_is_found_by_the_beginning_of_its_id_as_it_is_printed(lineage) -> None:
    assert short(LONE) == "model:cccccccccccc"
    assert "name lone" in lineage(short(LONE)).out
    assert f"several ids begin with {short(MODEL)}, as {MODEL} and " in " ".join(lineage(short(MODEL)).err.split())
    none = " ".join(lineage("model:0c92052e473d").err.split())
    assert "unknown_model: the graph knows no ModelVersion whose id begins with model:0c92052e473d" in none


def test_a_vote_that_agrees_and_is_not_on_the_certificate_came_after_the_decision() -> None:
    ballots = [Ballot(f"voter-{n}", MODEL, None, bad, None, NOW_MS) for n, bad in enumerate([False, False, True])]
    found = Decided(Thing("Decision", "decision:1", {}), "ace:a", "tally", (), tuple(ballots), (), ("a",))
    _, *votes = decision(found, agreed=("voter-1",))
    assert [said.partition(", with")[0] for _, _, said in votes] == [
        "agrees (came after the decision)", "agrees", "dissents"
    ]  # fmt: skip


def test_a_request_nobody_made_is_said_to_be_none(lineage) -> None:
    ran = lineage("request-2")
    assert (ran.status, "the graph knows no decision on request 'request-2'" in " ".join(ran.err.split())) == (1, True)


def test_of_two_accounts_with_one_request_id_one_has_to_be_named(lineage) -> None:
    assert "2 accounts used the request id 'shared'; name the account" in " ".join(lineage("shared").err.split())
    assert "asked by ace:ace-2" in lineage("shared", "--account", "ace-2").out
    assert "no decision on request 'shared'" in " ".join(lineage("shared", "--account", "ace-3").err.split())
