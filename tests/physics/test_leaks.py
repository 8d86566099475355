"""No frame that teaches judges, whichever trajectory or import it came with."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nvp_agentkit.errors import InvalidField
from nvp_agentkit.fields import FieldMeta, SequenceSet, split
from nvp_agentkit.fields.joining import join
from nvp_agentkit.fields.leaks import frame_digests

META = FieldMeta("rain", "mm/h")
RECORD = np.random.default_rng(0).gamma(1.0, size=(80, 16, 16)).astype(np.float32)  # what the instrument saw


def windows(starts: list[int], frames: int = 8) -> SequenceSet:
    """One trajectory a start, cut from the record."""
    return SequenceSet(np.stack([RECORD[start : start + frames] for start in starts]), None, META)


def frames_of(part: SequenceSet) -> set[bytes]:
    return {frame.tobytes() for frame in part.values.reshape(-1, 16, 16)}


@given(st.lists(st.integers(0, 72), min_size=3, max_size=8))
def test_no_frame_of_a_test_trajectory_is_in_training_however_imports_overlap(starts: list[int]) -> None:
    *taught, chosen, judged = (set(range(start, start + 8)) for start in starts)  # of 3 to 8 the last two are held out
    if chosen & judged or any(one & (chosen | judged) for one in taught):
        with pytest.raises(InvalidField, match="what was taught would judge"):
            split(windows(starts))
    else:
        assert frames_of(split(windows(starts)).test) == {RECORD[at].tobytes() for at in judged}


def test_one_file_imported_twice_and_joined_is_refused_naming_the_frames(tmp_path) -> None:
    twice = join([windows([0, 20]), windows([40, 4])], tmp_path / "joined")
    with pytest.raises(InvalidField, match="frame 0 of test trajectory 0 is frame 4 of training trajectory 0 as well, "
                                           "like 3 more"):
        split(twice)


def test_a_stuck_instrument_does_not_judge_itself_across_a_cut_in_time() -> None:
    stuck = np.repeat(RECORD[:1], 40, axis=0)
    with pytest.raises(InvalidField, match="what was taught would judge"):
        split(SequenceSet(stuck[None], None, META))


def test_maps_that_are_the_same_everywhere_may_be_anywhere() -> None:
    dry = windows([0, 10, 20, 30])
    dry.values[:, 3:6] = 0
    assert split(dry).test.trajectories == 1


def test_what_fills_a_hole_makes_no_difference() -> None:
    values = np.stack([RECORD[:8], RECORD[20:28], RECORD[:8]])
    mask = np.ones(values.shape, np.bool_)
    mask[..., :4, :] = False
    values[2, :, :4] = -7
    with pytest.raises(InvalidField, match="is frame 0 of training trajectory 0"):
        split(SequenceSet(values, mask, META))


def test_the_same_values_in_other_places_are_another_frame() -> None:
    north, south = np.ones((1, 16, 16), np.bool_), np.ones((1, 16, 16), np.bool_)
    north[:, 0], south[:, 15] = False, False
    values = np.stack([RECORD[:1], np.roll(RECORD[:1], -1, axis=1)])
    assert len({digest for digest, _, _ in frame_digests(SequenceSet(values, np.stack([north, south]), META))}) == 2
