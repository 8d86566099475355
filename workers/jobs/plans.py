"""The work of a hindcast before any of it is done: what it is, in which parts, at what price."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from nvp_agentkit import __version__
from nvp_agentkit.artifacts.store import MAX_CELLS
from nvp_agentkit.energy.meter import modelled
from nvp_agentkit.ensemble import EnsembleRecord, Member
from nvp_agentkit.errors import InvalidField
from nvp_agentkit.messages import HindcastSpec
from nvp_agentkit.messages.hindcasts import Manifest
from nvp_agentkit.messages.values import canonical_json, digest_of

from ..compute.cost import dearer
from ..requests import UNSAID

CELLS = 2**22  # of a part's mean: 16 MiB, and as much of its standard deviation; a start alone may have `MAX_CELLS`
MAX_PARTS = 2**14  # the manifest, 0.2 kB a part, is written anew with each
AT_ONCE = 16  # starts that go through a network together (`model.predict.LARGEST_BATCH`)
JUDGED = 32  # starts, up to twice as many, spread evenly: the trivial forecasters of one cost more than the model
FIT_WINDOWS = 64  # that the trivial forecasters learn from
# CPU-seconds on two busy cores: compiling with an empty cache; of a cell and a step, 1.2e-6 to 1.5e-6 at 64x64 and
# 128x128 with blocks of 4x4; of two flows, which look 16 cells beyond every edge; of the mean map.
OPENING_CPU_S, PART_CPU_S, CELL_CPU_S = 8.0, 0.1, 2.0e-6
FLOWS_CPU_S_PER_CELL, AROUND, READ_CPU_S_PER_CELL = 3.5e-6, 2 * 16, 1.0e-8


def planned(
    spec: HindcastSpec, record: EnsembleRecord, member: Member, about: dict[str, Any], context: int
) -> Manifest:
    """The whole work, of which nothing is done yet. The first start has two frames, for the trivial forecasters.

    Raises:
        InvalidField: too short, too large, too many or in other units.
    """
    first, frames = max(context, 2) - 1, about["frames"]
    starts = len(range(first, frames - spec.steps, spec.every))
    if not starts:
        raise InvalidField(
            f"steps={spec.steps}: trajectories have {frames} frames and the first {first + 1} are shown, so that "
            f"{max(frames - first - 1, 0)} steps can be compared with what came; ask for fewer"
        )
    cells = spec.steps * about["height"] * about["width"]
    if cells > MAX_CELLS:
        most = MAX_CELLS // (about["height"] * about["width"])
        raise InvalidField(
            f"{spec.steps} steps of {about['height']}x{about['width']} are {cells:,} cells from one start, limit "
            f"{MAX_CELLS:,}; ask for {most} steps or fewer"
        )
    learnt = None if record.rule is None else record.rule.units
    if learnt is not None and about["units"] not in (UNSAID, learnt):
        raise InvalidField(f"data in {about['units']!r}, and the ensemble of {record.domain} learnt it in {learnt!r}; "
                           "import them converted")  # fmt: skip
    same = {"data": spec.data.digest, "model": member.model_id, "steps": spec.steps, "every": spec.every}
    work = Manifest(
        work=digest_of(canonical_json(same | {"version": __version__})),
        domain=spec.domain,
        ensemble=record.digest,
        first=first,
        starts=starts,
        together=together(starts, cells),
        **{**same, "units": learnt or about["units"]},
        **{name: value for name, value in about.items() if name != "units"},
    )
    if work.parts_in_all > MAX_PARTS:
        raise InvalidField(
            f"{work.trajectories:,} trajectories of {starts:,} starts are {work.parts_in_all:,} parts, limit "
            f"{MAX_PARTS:,}; bring fewer trajectories at a time, or raise `every`"
        )
    return work


def together(starts: int, cells: int) -> int:
    """Starts of a part, of so many cells each: they are computed as whole batches, or as one of a power of two."""
    most = max(CELLS // cells, 1)
    return min(starts, most // AT_ONCE * AT_ONCE if most >= AT_ONCE else 1 << (most.bit_length() - 1))


@dataclass(frozen=True)
class Price:
    """What a hindcast takes, before any of it is seen."""

    opening_mj: float
    part_mj: float

    @classmethod
    def of(cls, work: Manifest, watts_per_core: float) -> Price:
        cells = work.height * work.width
        cell_s = CELL_CPU_S * dearer(work.height, work.width)
        flows_s = FLOWS_CPU_S_PER_CELL * (work.height + AROUND) * (work.width + AROUND)
        read_s = READ_CPU_S_PER_CELL * work.trajectories * work.frames * cells
        opening_s = OPENING_CPU_S + FIT_WINDOWS * flows_s + read_s
        judged = -(-work.together // judged_every(work))
        part_s = PART_CPU_S + work.steps * (cell_s * cells * _computed(work.together) + flows_s * judged)
        return cls(*(modelled(cpu_s, watts_per_core=watts_per_core).mj for cpu_s in (opening_s, part_s)))

    def mj(self, count: int) -> int:
        """Of so many parts."""
        return math.ceil(self.opening_mj + count * self.part_mj)


def judged_every(work: Manifest) -> int:
    """Which starts are judged: all of few, of many one in so many."""
    return max(1, work.trajectories * work.starts // JUDGED)


def _computed(together: int) -> int:
    """Starts that are computed for so many: a batch is a power of two, many of them are whole batches."""
    if together >= AT_ONCE:
        return -(-together // AT_ONCE) * AT_ONCE
    return 1 << (together - 1).bit_length()
