"""The demo's seventh act: where the answer came from, asked of the graph."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator

from rich.console import Console
from rich.table import Table

from nvp_agentkit.cli.demo.acts import Shown, indented, title
from nvp_agentkit.cli.inspect import VERDICTS, short
from nvp_agentkit.client import AgentClient
from nvp_agentkit.client.units import with_units
from nvp_agentkit.energy.accounts import joules
from nvp_agentkit.lineage import queries
from nvp_agentkit.lineage.answers import Decided, Joules
from nvp_agentkit.lineage.graph import Graph
from nvp_agentkit.lineage.walk import Lineage, Thing
from nvp_agentkit.messages import JobCompleted
from nvp_agentkit.settings import Settings

LATE_VOTE_S = 10.0  # a quorum needs two; the third vote is put on record when it comes
LATE_VERDICT_S = 1.0  # and the tally says of it whether it agrees, right after
Row = tuple[str, str, str]


async def remember(
    nvp: AgentClient, settings: Settings, answer: Shown, trained: JobCompleted, console: Console
) -> None:
    """Print the decision with its votes, and all that the champion was made of."""
    title(console, 7, "Where it came from, asked of the graph")
    champion = trained.members[0].model_id
    async with Graph.connect(settings) as graph:
        found = await with_all_votes(nvp, graph, answer.forecast.request_id, len(trained.members))
        origin = await queries.ancestry(graph, champion)
        cost = await queries.joules_of(graph, champion)
    table = Table("what", "id", "known", box=None, pad_edge=False, padding=(0, 3, 0, 0))
    for row in (*decision(found, answer.forecast.agreed), *map(_thing, _in_order(origin)), *_joules(cost)):
        table.add_row(*row)
    console.print(indented(table))


async def with_all_votes(nvp: AgentClient, graph: Graph, request_id: str, voters: int) -> Decided:
    """A decision as the graph knows it once every vote is there and judged, or has been waited for long enough."""
    until = time.monotonic() + LATE_VOTE_S
    while True:
        await nvp.recorded()
        found = await queries.decision(graph, request_id)
        if len(found.ballots) >= voters:
            if all(ballot.dissent is not None for ballot in found.ballots):
                return found
            until = min(until, time.monotonic() + LATE_VERDICT_S)
        if time.monotonic() > until:
            return found
        await asyncio.sleep(0.1)


def decision(found: Decided, agreed: tuple[str, ...]) -> Iterator[Row]:
    """How it was decided, by whom it was paid, and a row a vote; the voters ``agreed`` are on the certificate."""
    paid = ", ".join(found.paid_by)
    yield (
        "decision",
        short(found.decision.id),
        f"{found.decision['outcome']}, asked by {found.asked_by}, paid by {paid}",
    )
    for ballot in found.ballots:
        # Two of three decide: the third vote that agrees with them came too late to be on the certificate.
        late = " (came after the decision)" * (ballot.dissent is False and ballot.voter not in agreed)
        yield "  vote", ballot.voter, f"{VERDICTS[ballot.dissent]}{late}, with {short(ballot.model_id or '')}"


def _in_order(origin: Lineage) -> Iterator[Thing]:
    for label in ("ModelVersion", "Run", "DatasetVersion", "Config", "CodeVersion", "Environment"):
        yield from origin.labelled(label)


def _thing(thing: Thing) -> Row:
    match thing.label:
        case "ModelVersion":
            return "model", short(thing.id), f"{thing['name']}, {thing['params']:,} parameters"
        case "Run":
            seconds = (thing["ended_ms"] - thing["started_ms"]) / 1000
            return "  run", short(thing.id), f"{thing['kind']}, {seconds:.0f} s, {thing['outcome']}"
        case "DatasetVersion":
            shape = "x".join(map(str, thing["shape"] or []))
            return (
                "  data",
                short(thing.id),
                with_units(f"{shape} {thing['domain'] or 'as brought'},", thing["units"] or "raw file").rstrip(","),
            )
        case "Config":
            return "  config", short(thing.id), f"seed {thing['seed']}"
        case "CodeVersion":
            commit = f", commit {thing['commit'][:12]}" if thing["commit"] else ""
            return (
                "  code",
                short(thing.id),
                f"nvp-agentkit {thing['version']}{commit}{' + changes' * bool(thing['dirty'])}",
            )
        case _:
            return (
                "  environment",
                short(thing.id),
                (f"Python {thing['python']}, jax {thing['jax']}, {thing['threads']} cores of {thing['cpu']}"),
            )


def _joules(cost: tuple[Joules, ...]) -> Iterator[Row]:
    for one in cost:
        yield "  joules", one.phase, f"{joules(one.mj)} {one.method} ({joules(one.lo_mj)} to {joules(one.hi_mj)})"
