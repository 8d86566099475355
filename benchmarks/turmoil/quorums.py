"""What must be so of quorums: all voters say the same here, so that two votes are a certificate."""

from __future__ import annotations

from collections.abc import Mapping, Set
from typing import Any

from benchmarks.turmoil.child import COST_MJ
from benchmarks.turmoil.found import Answers, Found, certified
from benchmarks.turmoil.schedule import Asked
from nvp_agentkit.lineage.graph import Graph

QUORUM = 2
MAY_SAY = {
    "predict": ("nvp.prediction.completed.", "nvp.prediction.refused."),
    "ensemble": ("nvp.prediction.certified.", "nvp.prediction.abstained.", "nvp.prediction.refused."),
    "jobs": ("nvp.job.",),
}
Used = Mapping[str, Mapping[str, int]]  # request id -> voter -> millijoules


def counted(answers: Answers) -> int:
    """How many votes certificates are over."""
    events = [event for said in answers.values() for kind, event in said.items() if certified(kind)]
    return sum(len(event["data"]["agreed"]) + len(event["data"]["dissent"]) for event in events)


async def check_votes(
    graph: Graph, found: Found, accepted: Mapping[str, Asked], answers: Answers, used: Used, cast: int
) -> None:
    """Each vote that was ever ``cast`` is on record once; each that a certificate counts was paid for as well."""
    rows = await graph.rows("MATCH (v:Vote)-->(d:Decision) RETURN DISTINCT d.request_id AS id, v.voter AS voter")
    if cast != len(rows):
        found.doubled.append(f"{cast} votes were ever cast, and {len(rows)} are on record")
    for request_id, said in answers.items():
        asked = accepted[request_id].kind
        voters = {row["voter"] for row in rows if row["id"] == request_id}
        for kind, event in said.items():
            if not kind.startswith(MAY_SAY[asked]):
                found.lost.append(f"{request_id} was asked on {asked} and answered as {kind}")
            elif certified(kind):
                _certified(found, request_id, event["data"], voters, used.get(request_id, {}))
            elif asked == "ensemble" and len(voters) >= QUORUM:
                found.lost.append(f"{request_id} was answered as {kind} over the votes of {sorted(voters)}")


def _certified(found: Found, request_id: str, data: dict[str, Any], voters: Set[str], used: Mapping[str, int]) -> None:
    agreed, dissent = data["agreed"], data["dissent"]
    if len(agreed) < QUORUM or dissent:
        found.lost.append(f"{request_id} was certified by {agreed} over {dissent}")
    if unknown := set(agreed) - voters:
        found.lost.append(f"{request_id} was certified by {sorted(unknown)}, whose votes are not on record")
    if any(used.get(voter, 0) < COST_MJ for voter in agreed) or data["energy"]["mj"] < COST_MJ * len(agreed):
        found.joules.append(
            f"{request_id} was certified by {agreed} for {data['energy']['mj']} mJ, and {used} were used"
        )
