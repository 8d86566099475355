"""The child's side of a joule budget: what this call has used, and whether one more step still fits."""

from __future__ import annotations

import resource
import sys
import time
from collections.abc import Callable

from nvp_agentkit.energy.budget import StepCost, may_continue
from nvp_agentkit.energy.meter import modelled
from nvp_agentkit.errors import BudgetExhausted
from nvp_agentkit.messages import Reading

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

    def __init__(self, granted_mj: int, watts_per_core: float, margin_mj: int = 0) -> None:
        self.granted_mj = granted_mj
        self.margin_mj = margin_mj
        self._watts = watts_per_core
        self._cpu_s = used_cpu_s()
        self._started = time.monotonic()

    @property
    def cpu_s(self) -> float:
        return used_cpu_s() - self._cpu_s

    @property
    def wall_s(self) -> float:
        return time.monotonic() - self._started

    def reading(self) -> Reading:
        return modelled(self.cpu_s, self.wall_s, resident_gb(), watts_per_core=self._watts)

    @property
    def used_mj(self) -> int:
        return self.reading().mj


class Allowance:
    """A call's budget as training sees it (`nvp_agentkit.training.Pacer`): one more step, and how far along.

    ``reserve_mj`` is what must be left at the end, for calibrating and saving what was learnt. ``stop`` is
    asked before each step: a reason ends the loop there.
    """

    def __init__(
        self, spending: Spending, *, reserve_mj: int = 0, stop: Callable[[], str | None] = lambda: None
    ) -> None:
        self._spending = spending
        self._reserve_mj = reserve_mj + spending.margin_mj
        self._stop = stop
        self._last_mj = spending.used_mj
        self._cost = StepCost()
        self.stopped_by: str | None = None

    def may_continue(self, step: int) -> bool:
        """True while one more step, and the reserve, still fit with three sigma to spare."""
        return self._fits(step, self._reserve_mj)

    def _fits(self, step: int, kept_back_mj: int) -> bool:
        used = self._spending.used_mj
        if step > 0 and used > self._last_mj:
            self._cost.add(used - self._last_mj)
        self._last_mj = used
        self.stopped_by = self._stop()
        if self.stopped_by is None and not may_continue(used, self._cost, kept_back_mj, self._spending.granted_mj):
            self.stopped_by = "budget_exhausted"
        return self.stopped_by is None

    def fraction_used(self, step: int) -> float:
        """Share of the budget used, 0 to 1."""
        return min(self._spending.used_mj / max(self._spending.granted_mj - self._reserve_mj, 1), 1.0)

    def require(self, step: int, what: str) -> None:
        """`may_continue`, for work that is worth nothing unless it ends.

        Raises:
            BudgetExhausted: it will not end within the budget; the text says how far it came.
        """
        if not self.may_continue(step):
            raise BudgetExhausted(
                f"{what}: stopped at {self._spending.used_mj / 1000:.1f} J of the "
                f"{self._spending.granted_mj / 1000:.1f} J granted ({self.stopped_by}); raise `budget_j`"
            )


class SharedAllowance(Allowance):
    """An allowance that the members of an ensemble share, each with a price before its steps begin to teach it.

    That price (`begin`: weights, a first score; the first step, which compiles) is no member's share: it is kept back
    for all that are still to come, so that a member's steps never eat the beginning of another. Shares
    (`fraction_used`) are of what is left for steps.
    """

    def __init__(
        self,
        spending: Spending,
        *,
        members: int,
        begin_mj: float,
        compile_mj: float,
        step_mj: float,
        reserve_mj: int,
        stop: Callable[[], str | None] = lambda: None,
    ) -> None:
        super().__init__(spending, reserve_mj=reserve_mj, stop=stop)
        self._to_begin = members
        self._begin_mj, self._compile_mj, self._step_mj = begin_mj, compile_mj, step_mj
        self._fixed_mj = self._last_mj  # what was spent on no step
        self._first_step: int | None = None  # the one that compiles, while it is not done

    def begins(self, step: int) -> None:
        """A member has been scored as it is before its first step, which will be number ``step`` of the whole."""
        used = self._spending.used_mj
        self._begin_mj = used - self._last_mj
        self._fixed_mj += used - self._last_mj
        self._last_mj, self._to_begin = used, self._to_begin - 1
        self._cost = StepCost(forecast_mj=self._step_mj)
        self._first_step = step

    def may_continue(self, step: int) -> bool:
        """True while the next step, what later members need to begin, and the reserve still fit."""
        self._see_compiled(step)
        if self._first_step is None:
            return self._fits(step, self._kept_back_mj)
        used = self._last_mj = self._spending.used_mj
        self.stopped_by = self._stop()
        if self.stopped_by is None and used + self._kept_back_mj > self._spending.granted_mj:
            self.stopped_by = "budget_exhausted"
        return self.stopped_by is None

    def fraction_used(self, step: int) -> float:
        """Share used of all that is for steps, 0 to 1."""
        self._see_compiled(step)
        for_steps = self._spending.granted_mj - self._kept_back_mj - self._fixed_mj
        return min(max(self._spending.used_mj - self._fixed_mj, 0) / max(for_steps, 1), 1.0)

    def _see_compiled(self, step: int) -> None:
        """The first step is done: now it is known what compiling took."""
        if self._first_step is not None and step > self._first_step:
            used = self._spending.used_mj
            self._compile_mj = used - self._last_mj
            self._fixed_mj += used - self._last_mj
            self._last_mj, self._first_step = used, None

    @property
    def _kept_back_mj(self) -> int:
        ahead = self._to_begin * (self._begin_mj + self._compile_mj)
        at_hand = 0 if self._first_step is None else self._compile_mj
        return self._reserve_mj + round(ahead + at_hand)
