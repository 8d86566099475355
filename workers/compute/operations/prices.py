"""What a training costs, before any of it is seen: its fixed parts, which no step can be left out of."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Self

from nvp_agentkit.energy.budget import StepCost, cheapest_useful_mj
from nvp_agentkit.fields.sequence import SequenceSet
from nvp_agentkit.fields.split import Split
from nvp_agentkit.model.config import NVPConfig
from nvp_agentkit.training import MemberConfig
from nvp_agentkit.training.evaluate import cells_ahead
from nvp_agentkit.training.examples import windows

# CPU-seconds on two busy cores, compile cache empty, default network, 16x16 to 128x128; idle cores take 0.8 of it.
# What is told of a cell holds where blocks of 4x4 are folded; of 2x2, with eight frames, 2.5 times as much: 31 ms for a
# step of two windows of 64x64 beside other work, where 37 are asked; twice as much for a pass.
OPENING_CPU_S = 3.5  # the forward pass compiled, with the first member
COMPILE_CPU_S = 9.0  # the first step of all
BEGIN_CPU_S = 0.5  # of a member: weights, the best trivial forecast it can be
STEP_CPU_S, STEP_CPU_S_PER_CELL = 0.012, 1.2e-6
PASS_CPU_S_PER_CELL = 1.0e-6  # one forecast of every window of a held-out set
BASELINES_CPU_S, BASELINES_CPU_S_PER_CELL = 0.5, 6.0e-6
CLOSING_PASSES = 2  # of a member: the last validation, the score on the test set
SAVING_CPU_S = 0.25  # with calibration and the agreement rule
AHEAD_CPU_S = 2.5  # what rollouts and samples compile, the training data described, the errors' spectrum fitted
MEMORY = 1.12  # a gigabyte held takes 0.4 W beside the cores'
BUSY = 1.4  # times what compiling takes on a machine where much else goes on: a budget must survive that


@dataclass(frozen=True)
class Prices:
    """Millijoules. ``begin`` and ``pass`` are each member's, all others the whole job's."""

    opening_mj: float
    compile_mj: float
    begin_mj: float
    step_mj: float
    pass_mj: float
    baselines_mj: float
    closing_mj: float
    epoch_steps: int

    @classmethod
    def of(cls, parts: Split, config: MemberConfig, *, watts_per_core: float) -> Self:
        """The forecast for an ensemble on this data."""
        network = config.model_config
        context = network.context_frames
        return cls.on(
            held_out=max(_cells(parts.validation, context), _cells(parts.test, context)),
            ahead=cells_ahead(parts.validation),
            step_cells=config.batch_size * math.prod(min(config.crop, side) for side in parts.train.grid),
            dearer=(1 + (NVPConfig.stem / network.stem) ** 2) / 2,
            epoch_steps=-(-windows(parts.train, context) // config.batch_size),
            watts_per_core=watts_per_core,
        )

    @classmethod
    def on(
        cls,
        *,
        held_out: int = 0,
        ahead: int = 0,
        step_cells: int = 0,
        dearer: float = 1.0,
        epoch_steps: int = 0,
        watts_per_core: float,
    ) -> Self:
        """The forecast for so many cells held out, in rollouts and in a step: with none, what no data spares.

        ``dearer``: what a cell takes of the network, in units of what the default one takes.
        """
        mj = 1000 * watts_per_core * MEMORY
        pass_mj, ahead_mj = (mj * dearer * PASS_CPU_S_PER_CELL * cells for cells in (held_out, ahead))
        return cls(
            opening_mj=mj * OPENING_CPU_S,
            compile_mj=mj * COMPILE_CPU_S,
            begin_mj=mj * BEGIN_CPU_S + pass_mj + ahead_mj,  # rollouts calibrate the member before
            step_mj=mj * (STEP_CPU_S + dearer * STEP_CPU_S_PER_CELL * step_cells),
            pass_mj=pass_mj,
            baselines_mj=mj * (BASELINES_CPU_S + BASELINES_CPU_S_PER_CELL * held_out),
            closing_mj=mj * (SAVING_CPU_S + BUSY * AHEAD_CPU_S) + ahead_mj,
            epoch_steps=epoch_steps,
        )

    def least_mj(self, members: int, steps: int) -> int:
        """What it takes to begin and judge every member, and so many steps."""
        steps_mj = cheapest_useful_mj(
            compile_mj=0, step=StepCost(forecast_mj=self.step_mj), steps=steps, reserve_mj=0
        )
        each_mj = self.begin_mj + CLOSING_PASSES * self.pass_mj
        once_mj = 2 * self.baselines_mj + BUSY * (self.opening_mj + self.compile_mj) + self.closing_mj
        return math.ceil(once_mj + members * each_mj + steps_mj)

    def rest_mj(self, members: int, done: int) -> int:
        """What it takes to end what an earlier attempt has begun, without another step; ``done`` members are."""
        each_mj = self.begin_mj + CLOSING_PASSES * self.pass_mj
        again_mj = 2 * self.pass_mj  # seen on the validation set once more, and judged
        once_mj = 2 * self.baselines_mj + self.opening_mj + self.closing_mj
        return math.ceil(once_mj + done * again_mj + (members - done) * each_mj)


def _cells(data: SequenceSet, context: int) -> int:
    return windows(data, context) * math.prod(data.grid)
