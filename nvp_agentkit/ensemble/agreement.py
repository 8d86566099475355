"""How far two answers lie apart, which of them agree, and what they say together. Pure NumPy.

Everything is computed in float64 and in the order of the voters' names, so that the same votes give the
same bytes on every machine and in every order of arrival.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

from nvp_agentkit.ensemble.record import AgreementRule
from nvp_agentkit.errors import InvalidField

LOG_VAR_LIMIT = 100.0  # exp() of more says nothing about a field and soon overflows
# exp and log differ in the last bit from libm to libm; on this grid (0.006% of sigma) they do not.
LOG_VAR_GRID = 2.0**-12


class Answer(NamedTuple):
    """One voter's mean and log-variance, each of shape (H, W)."""

    mean: np.ndarray
    log_var: np.ndarray


class Difference(NamedTuple):
    """How far two answers lie apart, in the rule's four measures; infinite if their shapes differ."""

    distance: float
    peak: float
    variance: float
    budget: float

    def within(self, rule: AgreementRule) -> bool:
        return (
            self.distance <= rule.limit
            and self.peak <= rule.peak_limit
            and self.variance <= rule.variance_limit
            and self.budget <= rule.budget_limit
        )


Pairs = dict[tuple[str, str], Difference]


def valid_cells(shape: tuple[int, ...], mask: np.ndarray | None) -> np.ndarray:
    """Cells to compare: all, or where ``mask`` is True. A mask of another shape is another grid's.

    Raises:
        InvalidField: the mask leaves no cell.
    """
    if mask is None or mask.shape != shape:
        return np.ones(shape, bool)
    if not mask.any():
        raise InvalidField("every cell is masked; there is no answer to compare")
    return mask


def difference(one: Answer, other: Answer, spread: float, mask: np.ndarray | None = None) -> Difference:
    """Distance, peak, variance and budget difference of two answers over their valid cells.

    Args:
        one: finite in its valid cells.
        other: the same.
        spread: the rule's spread s, unit of the field.
        mask: shape (H, W), True where valid; None for all.

    Returns:
        RMS((m_1 - m_2) / s); max |m_1 - m_2| / s; mean |log_var_1 - log_var_2|; |mean(m_1 - m_2)| / s.
        All >= 0, zero for equals.

    Invariants: symmetric; adding one map to both means, or scaling means and spread together, changes nothing.
    """
    if one.mean.shape != other.mean.shape:
        return Difference(np.inf, np.inf, np.inf, np.inf)
    cells = valid_cells(one.mean.shape, mask)
    apart = (one.mean[cells].astype(np.float64) - other.mean[cells].astype(np.float64)) / spread
    claimed = one.log_var[cells].astype(np.float64) - other.log_var[cells].astype(np.float64)
    return Difference(
        distance=float(np.sqrt(np.mean(apart**2))),
        peak=float(np.max(np.abs(apart))),
        variance=float(np.mean(np.abs(claimed))),
        budget=float(abs(np.mean(apart))),
    )


def unusable(answer: Answer, mask: np.ndarray | None = None) -> str | None:
    """Why an answer cannot be compared with any other, or None if it can."""
    mean, log_var = answer
    if mean.ndim != 2 or mean.shape != log_var.shape:
        return f"mean {mean.shape} and log-variance {log_var.shape} are not two maps of one shape"
    cells = valid_cells(mean.shape, mask)
    wrong = int((~np.isfinite(mean[cells])).sum())
    if wrong:
        return f"{wrong} of {int(cells.sum())} valid cells of the mean are not finite"
    if not np.isfinite(log_var[cells]).all() or np.abs(log_var[cells]).max() > LOG_VAR_LIMIT:
        return f"log-variance not within +-{LOG_VAR_LIMIT:g}"
    return None


def compare(answers: Mapping[str, Answer], rule: AgreementRule, mask: np.ndarray | None = None) -> Pairs:
    """The difference of every pair of voters, names in order."""
    pairs = itertools.combinations(sorted(answers), 2)
    return {(a, b): difference(answers[a], answers[b], rule.spread, mask) for a, b in pairs}


def largest_agreeing(voters: Mapping[str, Answer], pairs: Pairs, rule: AgreementRule) -> tuple[str, ...]:
    """The largest set whose members all agree with each other; of equals the closest, then the first by name."""
    names = sorted(voters)
    for size in range(len(names), 0, -1):
        found = [
            (max((pairs[pair].distance for pair in itertools.combinations(group, 2)), default=0.0), group)
            for group in itertools.combinations(names, size)
            if all(pairs[pair].within(rule) for pair in itertools.combinations(group, 2))
        ]
        if found:
            return min(found)[1]
    return ()


def combine(answers: Mapping[str, Answer], rule: AgreementRule | None = None) -> Answer:
    """What the accepted members say together, float32, shape (H, W) each.

    The mean is the members' mean, so a total they all conserve stays conserved. The variance is that of `pooled`,
    times the rule's ``doubt`` of so many members. Masked cells without a value in some member are NaN.
    """
    names = sorted(answers)
    means = [answers[name].mean.astype(np.float64) for name in names]
    log_vars = [answers[name].log_var.astype(np.float64) for name in names]
    known = np.all([np.isfinite(array) for array in (*means, *log_vars)], axis=0)
    known &= np.all([np.abs(array) <= LOG_VAR_LIMIT for array in log_vars], axis=0)
    means = [np.where(known, array, 0.0) for array in means]
    mean, variance = pooled(means, [np.exp(np.where(known, array, 0.0)) for array in log_vars])
    if rule is not None and rule.doubt is not None:
        variance = variance * rule.doubt[len(names) - 1]
    log_var = np.round(np.log(variance) / LOG_VAR_GRID) * LOG_VAR_GRID
    unknown = np.float32(np.nan)
    return Answer(
        np.where(known, mean.astype(np.float32), unknown), np.where(known, log_var.astype(np.float32), unknown)
    )


def pooled(means: Sequence[np.ndarray], variances: Sequence[np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """Mean and variance of M members, float64 maps of one shape.

    The variance is within (mean of theirs) plus between (of their means), times (M + 1) / M for the finite ensemble.
    """
    count = len(means)
    mean = sum(means[1:], means[0]) / count
    parts = [*variances, *((array - mean) ** 2 for array in means)]
    return mean, sum(parts[1:], parts[0]) / count * (count + 1) / count
