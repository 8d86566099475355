"""Whether an ensemble's training may take one more step within its joules, and still come to a good end."""

from __future__ import annotations

from nvp_agentkit.energy.budget import StepCost
from nvp_agentkit.training import Progress

from ..spending import Allowance, Spending, Stop
from .prices import CLOSING_PASSES, Prices


class EnsembleAllowance(Allowance):
    """The budget of an ensemble's training (`nvp_agentkit.training.Pacer`), which learns its own prices as it goes.

    Compiling is paid once, by no member: all share the programs. What later members need to begin and all need to be
    judged is kept back, for what a forecast of the validation set has been seen to cost in this job, so that steps
    never eat the end. Shares (`fraction_used`) are of what is left for steps; with ``steps`` in all they are of these.

    A training that goes on from an earlier attempt's, of which so many members are ``done`` and this ``fraction`` of
    what is for steps was used, takes what that one left for the rest, and stands where it stood in its schedule.
    """

    CAUTION = 1.25  # times the dearest pass seen: those to come may meet a busier machine
    FOUND = 0.3  # of what compiling takes, at least, where the programs are found compiled

    def __init__(
        self,
        spending: Spending,
        prices: Prices,
        *,
        members: int,
        stop: Stop = lambda: None,
        steps: int | None = None,
        done: int = 0,
        fraction: float | None = None,
    ) -> None:
        super().__init__(spending, stop=stop)
        self._cost = StepCost(forecast_mj=prices.step_mj)
        self._passes = members * CLOSING_PASSES - done
        self._to_begin = members - 1 - done  # after the one at hand
        self._begin_mj, self._pass_mj = prices.begin_mj, prices.pass_mj  # forecast, until one is seen
        self._opening_mj, self._compile_mj = prices.opening_mj, prices.compile_mj
        self._dearest_mj = 0.0
        # Judging scores the baselines once more, for what that has just been seen to cost.
        self._closing_mj = spending.margin_mj + prices.closing_mj + max(1.2 * self._last_mj, prices.baselines_mj)
        self._fixed_mj = float(self._last_mj)  # what was spent on no step
        self._steps, self._before, self._resumed = steps, fraction or 0.0, fraction is not None
        self._member: int | None = None

    def told(self, progress: Progress) -> None:
        """A step was done, or a validation: now it is known what that took."""
        cost_mj = self._since_last()
        if progress.member != self._member:
            self._begun(cost_mj, progress.member)
        elif progress.phase == "validating":
            self._dearest_mj = max(cost_mj, self._dearest_mj)
            self._pass_mj = self.CAUTION * self._dearest_mj
        elif progress.phase == "training" and self._compile_mj:
            self._compile_mj = 0.0
            self._fixed_mj += cost_mj
        elif progress.phase == "training":
            self._cost.add(cost_mj)

    def caught_up(self, passes: int) -> None:
        """Members of an earlier attempt have shown once more what they forecast, in so many passes."""
        cost_mj = self._since_last()
        self._fixed_mj += cost_mj
        self._opened(cost_mj - passes * self._pass_mj)

    def spent_beside(self) -> int:
        """Something was done that is no step; what that took."""
        cost_mj = self._since_last()
        self._fixed_mj += cost_mj
        return cost_mj

    def may_continue(self, step: int) -> bool:
        """True while the next step, what later members need to begin, and the end still fit."""
        self._since_last()
        return self._fits(self._kept_back_mj)

    def fraction_used(self, step: int) -> float:
        """Share used of all that is for steps, 0 to 1."""
        if self._steps is not None:
            return min(step / self._steps, 1.0)
        for_steps = self._spending.granted_mj - self._kept_back_mj - self._fixed_mj
        used = min(max(self._spending.used_mj - self._fixed_mj, 0) / max(for_steps, 1), 1.0)
        return self._before + (1 - self._before) * used

    def _begun(self, cost_mj: float, member: int) -> None:
        """A member's first weights have been validated; with the first member the forward pass was compiled."""
        self._fixed_mj += cost_mj
        if self._member is None:
            self._opened(cost_mj - self._pass_mj)
        else:
            self._to_begin -= 1
            self._passes -= 1  # the last validation of the one before
            self._begin_mj = self.CAUTION * cost_mj
        self._member = member

    def _opened(self, cost_mj: float) -> None:
        """The first program is ready. Where an earlier attempt's was found compiled, so will the step's be."""
        if self._resumed and self._opening_mj:
            self._compile_mj *= min(max(cost_mj / self._opening_mj, self.FOUND), 1.0)
        self._opening_mj = 0.0

    @property
    def _kept_back_mj(self) -> float:
        ahead = self._to_begin * self._begin_mj + self._passes * self._pass_mj
        return self._closing_mj + ahead + self._compile_mj
