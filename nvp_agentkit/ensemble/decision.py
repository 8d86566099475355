"""The decision on a request: accept what a quorum agrees on, wait for more votes, or abstain."""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

import numpy as np

from nvp_agentkit.ensemble import agreement
from nvp_agentkit.ensemble.agreement import Answer, Difference, Pairs
from nvp_agentkit.ensemble.ballots import Ballots
from nvp_agentkit.ensemble.canonical import is_array
from nvp_agentkit.ensemble.record import AgreementRule, EnsembleRecord
from nvp_agentkit.ensemble.votes import Summary, Vote, summarize
from nvp_agentkit.errors import InvalidInput

SUMMARY_TOLERANCE = 1e-4  # a voter's own summary, computed in another order of sums


@dataclass(frozen=True)
class Decision:
    """What became of a request. ``answer`` is there exactly when ``outcome`` is `accepted`.

    ``agreed``, ``dissent`` and ``missing`` name each member once; ``pairs`` are the differences among
    all answers that could be compared.
    """

    outcome: Literal["accepted", "abstained", "pending"]
    quorum: int
    agreed: tuple[str, ...] = ()
    dissent: dict[str, str] = field(default_factory=dict)
    missing: dict[str, str] = field(default_factory=dict)
    pairs: Pairs = field(default_factory=dict)
    answer: Answer | None = None

    @property
    def votes(self) -> dict[str, str]:
        """What each member did, in words."""
        return dict.fromkeys(self.agreed, "agreed") | self.dissent | self.missing

    @property
    def reason(self) -> str:
        said = "; ".join(f"{voter}: {text}" for voter, text in sorted(self.votes.items()))
        return f"{self.outcome}, {len(self.agreed)} agree and {self.quorum} must: {said}"


def decide(
    record: EnsembleRecord,
    ballots: Ballots,
    answers: Mapping[str, Answer],
    *,
    mask: np.ndarray | None = None,
    closed: bool = False,
) -> Decision:
    """Decide on the votes at hand.

    Args:
        record: the ensemble whose rule holds.
        ballots: what was cast, from `collect`.
        answers: voter -> its arrays. A voter whose arrays could not be read is left out, and dissents.
        mask: the record's mask as booleans, shape (H, W).
        closed: no more votes are waited for (the deadline passed).

    Promises: the same votes in any order give the same decision, to the byte. `accepted` as soon as a
    quorum of all members agrees; a slow or silent member never delays it. `pending` only while votes that
    may still come could make a quorum.

    Raises:
        InvalidInput: the ensemble is too small for a rule.
    """
    rule = record.rule
    if rule is None:
        raise InvalidInput(f"{record.domain} has {len(record.members)} members; a quorum needs at least 3")
    faults = dict(ballots.faults)
    usable: dict[str, Answer] = {}
    for voter, vote in sorted(ballots.votes.items()):
        fault = _fault(vote, answers.get(voter), mask)
        if fault is None:
            usable[voter] = answers[voter]
        else:
            faults[voter] = fault
    pairs = agreement.compare(usable, rule, mask)
    largest = agreement.largest_agreeing(usable, pairs, rule)
    accepted = len(largest) >= record.quorum
    hopeless = len(largest) + len(ballots.awaited) < record.quorum
    differing = {voter: _explain(voter, largest, pairs, rule) for voter in usable if voter not in largest}
    return Decision(
        outcome="accepted" if accepted else "abstained" if closed or hopeless else "pending",
        quorum=record.quorum,
        agreed=largest,
        dissent=faults | differing,
        missing=dict(ballots.missing),
        pairs=pairs,
        answer=agreement.combine({voter: usable[voter] for voter in largest}, rule) if accepted else None,
    )


def _fault(vote: Vote, answer: Answer | None, mask: np.ndarray | None) -> str | None:
    """Why a valid vote's arrays do not count, or None if they do."""
    if answer is None:
        return "its arrays could not be read"
    for name, ref, array in (("mean", vote.mean, answer.mean), ("log_var", vote.log_var, answer.log_var)):
        if not is_array(array, ref):
            return f"its {name} is not the array it signed"
    unusable = agreement.unusable(answer, mask)
    if unusable is not None:
        return unusable
    cells = agreement.valid_cells(answer.mean.shape, mask)
    if not _summary_fits(vote.summary, summarize(answer.mean, cells)):
        return "its summary is not that of its array"
    return None


def _summary_fits(said: Summary, found: Summary) -> bool:
    """Equal up to rounding, relative to the largest value times the cells that were summed."""
    scale = max(abs(found.min), abs(found.max))
    levels = np.subtract((said.min, said.max, *said.bands), (found.min, found.max, *found.bands))
    return (
        said.cells == found.cells
        and abs(said.sum - found.sum) <= SUMMARY_TOLERANCE * scale * found.cells
        and bool(np.abs(levels).max() <= SUMMARY_TOLERANCE * scale)
    )


def _explain(voter: str, agreed: tuple[str, ...], pairs: Pairs, rule: AgreementRule) -> str:
    """How ``voter`` differs from the nearest of the agreed, in the first measure that is over its limit."""
    apart: list[tuple[Difference, str]] = []
    for pair in itertools.chain.from_iterable(((voter, other), (other, voter)) for other in agreed):
        if pair in pairs and not pairs[pair].within(rule):
            apart.append((pairs[pair], pair[0] if pair[1] == voter else pair[1]))
    if not apart:
        return "agrees with no member"
    found, other = min(apart)
    if not np.isfinite(found.distance):
        return f"answers on another grid than {other}"
    if found.distance > rule.limit:
        return f"{found.distance:.3g} spreads from {other}, limit {rule.limit:.3g}"
    if found.peak > rule.peak_limit:
        return f"{found.peak:.3g} spreads from {other} in one cell, limit {rule.peak_limit:.3g}"
    if found.budget > rule.budget_limit:
        return f"its energy is {found.budget:.3g} spreads a cell from {other}'s, limit {rule.budget_limit:.3g}"
    return f"claims another variance than {other}: log ratio {found.variance:.3g}, limit {rule.variance_limit:.3g}"
