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
    never eat the end. Shares (`fraction_used`) are of what is left for steps.
    """

    CAUTION = 1.25  # times the dearest pass seen: those to come may meet a busier machine

    def __init__(self, spending: Spending, prices: Prices, *, members: int, stop: Stop = lambda: None) -> None:
        super().__init__(spending, stop=stop)
        self._cost = StepCost(forecast_mj=prices.step_mj)
        self._passes = members * CLOSING_PASSES
        self._to_begin = members - 1  # after the one at hand
        self._begin_mj, self._pass_mj = prices.begin_mj, prices.pass_mj  # forecast, until one is seen
        self._compile_mj = prices.compile_mj
        self._dearest_mj = 0.0
        # Judging scores the baselines once more, for what that has just been seen to cost.
        self._closing_mj = spending.margin_mj + prices.closing_mj + max(1.2 * self._last_mj, prices.baselines_mj)
        self._fixed_mj = float(self._last_mj)  # what was spent on no step
        self._member = -1

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

    def may_continue(self, step: int) -> bool:
        """True while the next step, what later members need to begin, and the end still fit."""
        self._since_last()
        return self._fits(self._kept_back_mj)

    def fraction_used(self, step: int) -> float:
        """Share used of all that is for steps, 0 to 1."""
        for_steps = self._spending.granted_mj - self._kept_back_mj - self._fixed_mj
        return min(max(self._spending.used_mj - self._fixed_mj, 0) / max(for_steps, 1), 1.0)

    def _begun(self, cost_mj: float, member: int) -> None:
        """A member's fresh weights have been validated; with the first one the forward pass was compiled."""
        self._member = member
        self._fixed_mj += cost_mj
        if member:
            self._to_begin -= 1
            self._passes -= 1  # the last validation of the one before
            self._begin_mj = self.CAUTION * cost_mj

    @property
    def _kept_back_mj(self) -> float:
        ahead = self._to_begin * self._begin_mj + self._passes * self._pass_mj
        return self._closing_mj + ahead + self._compile_mj
