"""Several datasets as one."""

from dataclasses import replace

import numpy as np
import pytest

from nvp_agentkit.errors import InvalidField
from nvp_agentkit.fields import FieldMeta, SequenceSet, open_sequences
from nvp_agentkit.fields.joining import join


def part(seed: int, trajectories: int = 2, **meaning: object) -> SequenceSet:
    values = np.random.default_rng(seed).normal(size=(trajectories, 5, 16, 18)).astype(np.float32)
    meta = FieldMeta("heat", "K", dt_s=60.0, provenance={"equation": "heat", "seed": seed})
    return SequenceSet(values, None, replace(meta, **meaning))


def test_trajectories_follow_in_order_and_each_part_keeps_its_origin(tmp_path) -> None:
    whole = join([part(1), part(2, 3)], tmp_path / "whole")
    np.testing.assert_array_equal(whole.values, np.concatenate([part(1).values, part(2, 3).values]))
    assert whole.meta.provenance == {"equation": "heat", "parts": [{"seed": 1}, {"seed": 2}]}
    assert (whole.meta.units, whole.meta.dt_s, whole.mask) == ("K", 60.0, None)
    assert open_sequences(tmp_path / "whole").meta == whole.meta


def test_a_part_without_holes_was_observed_everywhere(tmp_path) -> None:
    holed = replace(part(2), mask=part(2).values > 0)
    whole = join([part(1), holed], tmp_path / "whole")
    assert whole.mask is not None
    assert whole.mask[:2].all()
    np.testing.assert_array_equal(whole.mask[2:], holed.mask)


@pytest.mark.parametrize(
    ("other", "said"),
    [
        (part(2, units="C"), "part 1 has units C, part 0 K"),
        (part(2, dt_s=30.0), r"part 1 has dt_s 30.0, part 0 60.0"),
        (part(2).select(frames=slice(0, 4)), "part 1 has frames 4, part 0 5"),
    ],
)
def test_what_differs_is_named_before_anything_is_written(other: SequenceSet, said: str, tmp_path) -> None:
    with pytest.raises(InvalidField, match=said):
        join([part(1), other], tmp_path / "whole")
    assert not (tmp_path / "whole").exists()
