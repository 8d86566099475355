"""Relationships of the graph, from the later thing to the earlier one, and the bundle facts travel in."""

from __future__ import annotations

from nvp_agentkit.lineage.vocabulary import check_edge
from nvp_agentkit.messages import EdgeFact, LineageRecorded, NodeFact


def edge(kind: str, later: NodeFact, earlier: NodeFact) -> EdgeFact:
    """``later -kind-> earlier``; raises `InvalidMessage` if the vocabulary has no such relationship."""
    fact = EdgeFact(type=kind, from_label=later.label, from_id=later.id, to_label=earlier.label, to_id=earlier.id)
    check_edge(fact)
    return fact


def used(run: NodeFact, thing: NodeFact) -> EdgeFact:
    return edge("USED", run, thing)


def was_generated_by(output: NodeFact, run: NodeFact) -> EdgeFact:
    return edge("WAS_GENERATED_BY", output, run)


def was_derived_from(later: NodeFact, earlier: NodeFact) -> EdgeFact:
    """A model from data or a model, data from data or predictions, predictions and votes from a model."""
    return edge("WAS_DERIVED_FROM", later, earlier)


def was_associated_with(activity: NodeFact, agent: NodeFact) -> EdgeFact:
    """Who carried it out: a run's worker, a decision's tally."""
    return edge("WAS_ASSOCIATED_WITH", activity, agent)


def was_attributed_to(thing: NodeFact, agent: NodeFact) -> EdgeFact:
    """Whose it is: a decision's is who asked, a vote's the voter, an assertion's who says so."""
    return edge("WAS_ATTRIBUTED_TO", thing, agent)


def metered(activity: NodeFact, reading: NodeFact) -> EdgeFact:
    return edge("METERED", activity, reading)


def charged_to(reading: NodeFact, account: NodeFact) -> EdgeFact:
    return edge("CHARGED_TO", reading, account)


def evaluates(series: NodeFact, model: NodeFact) -> EdgeFact:
    return edge("EVALUATES", series, model)


def vote_in(vote: NodeFact, decision: NodeFact) -> EdgeFact:
    return edge("VOTE_IN", vote, decision)


def about(assertion: NodeFact, thing: NodeFact) -> EdgeFact:
    return edge("ABOUT", assertion, thing)


class Facts:
    """Collects what belongs together: ``model = facts.add(model_version(...))``, then `bundle`."""

    def __init__(self) -> None:
        self._nodes: list[NodeFact] = []
        self._edges: list[EdgeFact] = []

    def add(self, node: NodeFact) -> NodeFact:
        """Record ``node`` and hand it back for the edges."""
        self._nodes.append(node)
        return node

    def link(self, *edges: EdgeFact) -> None:
        """Record relationships. An end that nobody describes stays a node with nothing but its id."""
        self._edges.extend(edges)

    def bundle(self) -> LineageRecorded:
        """Everything so far as one message."""
        return LineageRecorded(nodes=tuple(self._nodes), edges=tuple(self._edges))
