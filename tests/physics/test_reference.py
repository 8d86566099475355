"""The reference task is pinned: who changes it must change this test and every figure measured on it."""

from __future__ import annotations

from dataclasses import asdict, replace

import numpy as np
import pytest

from nvp_agentkit.domains import DOMAINS, plasma_physics
from nvp_agentkit.domains.hasegawa_wakatani import Parameters
from nvp_agentkit.domains.reference import PARAMETERS, reference
from nvp_agentkit.reference_task import DOMAIN, FRAMES, PARTS, SIZE, SPLIT_NAMES

QUICK = replace(Parameters.for_size(32), spin_up=4.0)


def test_its_numbers_are_those_of_the_protocol() -> None:
    process = plasma_physics.process(SIZE, 0, PARAMETERS)
    (coarse, coarse_frames), (fine, fine_frames) = process.spin_up
    assert (coarse.size, coarse_frames, fine.size, fine_frames) == (128, 150, 256, 40)
    assert process.meta.dt_s == FRAMES - 100.5 == 0.5
    assert {split: part.trajectories for split, part in PARTS.items()} == {"train": 8, "validation": 2, "test": 4}
    assert len({part.seed for part in PARTS.values()}) == 3
    assert asdict(PARAMETERS) == {
        "alpha": 1, "kappa": 1, "k0": 0.15, "nu": 1e-4, "dt": 0.05, "frame_steps": 10, "spin_up": 170, "refine": 20,
    }  # fmt: skip


def test_the_defaults_of_its_domain_and_size_are_the_same_task() -> None:
    assert DOMAINS[DOMAIN].process is plasma_physics.process
    assert Parameters.for_size(SIZE) == PARAMETERS  # so a plain simulation makes it, and anybody's job can


def test_a_small_stand_in_has_the_splits_and_no_trajectory_twice() -> None:
    made = [reference(split, size=32, frames=3, parameters=QUICK) for split in SPLIT_NAMES]
    assert [sequences.values.shape for sequences in made] == [(8, 3, 32, 32), (2, 3, 32, 32), (4, 3, 32, 32)]
    assert [sequences.meta.provenance["seed"] for sequences in made] == [part.seed for part in PARTS.values()]
    starts = np.concatenate([sequences.values[:, 0] for sequences in made])
    assert len({start.tobytes() for start in starts}) == 14


def test_the_same_split_has_the_same_bytes() -> None:
    first, again = (reference("test", size=32, frames=2, parameters=QUICK).values for _ in range(2))
    assert first.tobytes() == again.tobytes()


def test_its_density_is_that_of_the_same_trajectories() -> None:
    energy, density = (reference("test", size=32, frames=2, parameters=QUICK, density=shown) for shown in (False, True))
    flow = 2 * energy.values - density.values**2  # |grad phi|^2
    assert -1e-5 < flow.min() < 0.1 * flow.mean()
    assert density.values.min() < 0
    assert not density.meta.positive
    assert density.meta.provenance["seed"] == energy.meta.provenance["seed"]
    assert density.meta.dx_m == energy.meta.dx_m


def test_a_size_without_cells_is_refused() -> None:
    with pytest.raises(ValueError, match="even size >= 16"):
        reference("test", size=17)
