"""How far training may go. This column knows neither joules nor clocks: whoever pays holds the pacer."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol


class Pacer(Protocol):
    """Asked before each step, with the number of steps done. Both answers may change with time."""

    def may_continue(self, step: int) -> bool:
        """False when the next step and one last validation would no longer fit (budget, deadline, cancel)."""

    def fraction_used(self, step: int) -> float:
        """Share of the allowance used, 0 to 1: places the learning rate on its schedule."""


@dataclass(frozen=True)
class StepPacer:
    """A fixed number of steps: the allowance that is reproducible bit for bit."""

    steps: int

    def may_continue(self, step: int) -> bool:
        return step < self.steps

    def fraction_used(self, step: int) -> float:
        return min(step / self.steps, 1.0) if self.steps else 1.0


@dataclass(frozen=True)
class WindowPacer:
    """One member's part [start, end) of an allowance that several share, one after the other.

    ``steps_before`` were done by the members before it, so that the shared pacer sees one count.
    """

    whole: Pacer
    start: float
    end: float
    steps_before: int = 0

    def may_continue(self, step: int) -> bool:
        return self.fraction_used(step) < 1 and self.whole.may_continue(self.steps_before + step)

    def fraction_used(self, step: int) -> float:
        used = self.whole.fraction_used(self.steps_before + step)
        return min(max((used - self.start) / (self.end - self.start), 0.0), 1.0)
