"""The child's side of a joule budget: what this call has used, and whether one more step still fits."""

from __future__ import annotations

import resource
import sys
import time
from collections.abc import Callable

from nvp_agentkit.energy.budget import StepCost, may_continue
from nvp_agentkit.energy.sensors import Modelled, Sensor, Work
from nvp_agentkit.errors import BudgetExhausted, Cancelled
from nvp_agentkit.messages import Reading

Stop = Callable[[], str | None]
_RSS_UNIT = 1 if sys.platform == "darwin" else 1024  # ru_maxrss, getrusage(2)


def used_cpu_s(who: int = resource.RUSAGE_SELF) -> float:
    """CPU-seconds of this process so far, or of its ended children: user and system, all threads (getrusage)."""
    usage = resource.getrusage(who)
    return usage.ru_utime + usage.ru_stime


def resident_gb(who: int = resource.RUSAGE_SELF) -> float:
    """The most memory this process ever held: it never falls, so neither does what a call is said to have used."""
    return resource.getrusage(who).ru_maxrss * _RSS_UNIT / 1e9


class Spending:
    """What one call costs from now on, against the millijoules it was granted; ``margin_mj`` of these stay unused."""

    def __init__(
        self, granted_mj: int, watts_per_core: float, margin_mj: int = 0, *, sensor: Sensor | None = None
    ) -> None:
        self.granted_mj = granted_mj
        self.margin_mj = margin_mj
        self._read = (sensor or Modelled(watts_per_core)).begin_window()
        self._cpu_s = used_cpu_s()
        self._started = time.monotonic()

    @property
    def cpu_s(self) -> float:
        return used_cpu_s() - self._cpu_s

    @property
    def wall_s(self) -> float:
        return time.monotonic() - self._started

    def reading(self) -> Reading:
        return self._read(Work(self.cpu_s, self.wall_s, resident_gb()))

    @property
    def used_mj(self) -> int:
        return self.reading().mj


class Allowance:
    """A call's budget, asked before each step; ``stop`` is asked as well: a reason ends the call there."""

    def __init__(self, spending: Spending, *, stop: Stop = lambda: None) -> None:
        self._spending = spending
        self._stop = stop
        self._last_mj = spending.used_mj
        self._cost = StepCost()
        self.stopped_by: str | None = None

    def may_continue(self, step: int) -> bool:
        """True while one more step still fits with three sigma to spare.

        Raises:
            Cancelled: nobody wants the work any more.
        """
        cost_mj = self._since_last()
        if step > 0 and cost_mj > 0:
            self._cost.add(cost_mj)
        return self._fits(self._spending.margin_mj)

    def require(self, step: int, what: str) -> None:
        """`may_continue`, for work that is worth nothing unless it ends.

        Raises:
            BudgetExhausted: it will not end within the budget; the text says how far it came.
            Cancelled: as `may_continue`.
        """
        if not self.may_continue(step):
            raise BudgetExhausted(
                f"{what}: stopped at {self._spending.used_mj / 1000:.1f} J of the "
                f"{self._spending.granted_mj / 1000:.1f} J granted; raise `budget_j`"
            )

    def _since_last(self) -> int:
        """What was used since this was last asked."""
        used = self._spending.used_mj
        cost_mj, self._last_mj = used - self._last_mj, used
        return cost_mj

    def _fits(self, kept_back_mj: float) -> bool:
        if (reason := self._stop()) is not None:
            raise Cancelled(f"{reason}; stopped at {self._spending.used_mj / 1000:.1f} J")
        if not may_continue(self._last_mj, self._cost, kept_back_mj, self._spending.granted_mj):
            self.stopped_by = "budget_exhausted"
        return self.stopped_by is None
