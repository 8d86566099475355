"""Sequences: what they promise, how they are kept, and who may learn from which frame."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from nvp_agentkit.errors import InvalidField, InvalidFile
from nvp_agentkit.fields import FieldMeta, SequenceSet, open_sequences, save, split

META = FieldMeta("heat", "K", dt_s=60.0, boundary=("periodic", "open"), provenance={"seed": 3})


def numbered(trajectories: int, frames: int) -> SequenceSet:
    """Every frame holds its own number, so that a frame is known wherever it turns up."""
    numbers = np.arange(trajectories * frames, dtype=np.float32).reshape(trajectories, frames, 1, 1)
    return SequenceSet(np.broadcast_to(numbers, (trajectories, frames, 16, 16)), None, META)


def frames_of(part: SequenceSet) -> set[int]:
    return {int(number) for number in part.values[..., 0, 0].ravel()}


def test_what_is_saved_is_opened_again(tmp_path: Path) -> None:
    values = np.random.default_rng(0).normal(size=(2, 5, 16, 18)).astype(np.float32)
    kept = SequenceSet(values, values > 0, META)
    save(kept, tmp_path / "s")
    opened = open_sequences(tmp_path / "s")
    np.testing.assert_array_equal(opened.values, values)
    np.testing.assert_array_equal(opened.mask, values > 0)
    assert opened.meta == META
    assert isinstance(opened.values, np.memmap)


def test_equal_sequences_are_equal_bytes(tmp_path: Path) -> None:
    other = replace(META, provenance=json.loads(json.dumps(META.provenance)))
    save(numbered(2, 5), tmp_path / "a")
    save(replace(numbered(2, 5), meta=other), tmp_path / "b")
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


def spoilt(data: bytes, **changes: object) -> bytes:
    length = int.from_bytes(data[:8], "little")
    header = json.loads(data[8 : 8 + length])
    header["values"] |= changes
    text = json.dumps(header).encode()
    return len(text).to_bytes(8, "little") + text + data[8 + length :]


@pytest.mark.parametrize(
    "change",
    [
        {"shape": [10**6, 10**6, 10**6, 10**6]},
        {"shape": [2, 5, -16, -16]},
        {"shape": [2, 5, 16]},
        {"shape": None},
        {"data_offsets": [-4, 10236]},
        {"data_offsets": [4, 10244]},
        {"dtype": "F64"},
    ],
    ids=str,
)
def test_a_header_that_promises_what_the_file_has_not_is_refused(tmp_path: Path, change: dict[str, object]) -> None:
    save(numbered(2, 5), tmp_path / "s")
    (tmp_path / "s").write_bytes(spoilt((tmp_path / "s").read_bytes(), **change))
    with pytest.raises(InvalidFile, match="not a file of sequences"):
        open_sequences(tmp_path / "s")


@pytest.mark.parametrize(
    "data", [b"", b"\xff" * 8, b"\xff" * 64, b"\x02" + bytes(7) + b"[]", b"\x02" + bytes(7) + b"{}"]
)
def test_any_other_bytes_are_refused(tmp_path: Path, data: bytes) -> None:
    (tmp_path / "s").write_bytes(data)
    with pytest.raises(InvalidFile):
        open_sequences(tmp_path / "s")


def test_a_file_cut_short_is_refused(tmp_path: Path) -> None:
    save(numbered(2, 5), tmp_path / "s")
    (tmp_path / "s").write_bytes((tmp_path / "s").read_bytes()[:-1])
    with pytest.raises(InvalidFile, match="does not fit"):
        open_sequences(tmp_path / "s")


@pytest.mark.parametrize("trajectories", [3, 4, 12, 30])
def test_trajectories_are_parted_whole_and_once(trajectories: int) -> None:
    parts = split(numbered(trajectories, 8))
    train, validation, test = (frames_of(part) for part in (parts.train, parts.validation, parts.test))
    assert train | validation | test == set(range(8 * trajectories))
    assert len(train) + len(validation) + len(test) == 8 * trajectories
    assert min(part.trajectories for part in (parts.train, parts.validation, parts.test)) >= 1
    assert parts.rule == "by trajectory"


@pytest.mark.parametrize("frames", [24, 36, 91])
def test_one_trajectory_is_cut_in_time_with_frames_thrown_away_between(frames: int) -> None:
    parts = split(numbered(1, frames))
    train, validation, test = (frames_of(part) for part in (parts.train, parts.validation, parts.test))
    assert max(train) + parts.gap < min(validation)
    assert max(validation) + parts.gap < min(test)
    assert max(test) == frames - 1
    assert parts.gap >= 2
    assert parts.test.meta.provenance["split"] == {"part": "test", "rule": "time blocks with a gap", "gap": parts.gap}


def test_too_short_a_sequence_cannot_be_cut() -> None:
    with pytest.raises(InvalidField, match="bring a longer sequence"):
        split(numbered(1, 12))


def test_a_description_survives_its_canonical_text() -> None:
    assert FieldMeta.from_json(META.to_json()) == META


@pytest.mark.parametrize(
    "text", ["", "[]", "{}", '{"domain":"x","boundary":["up","down"]}', '{"boundary":[1,2],"x":1}']
)
def test_a_text_that_describes_no_field_is_refused(text: str) -> None:
    with pytest.raises(InvalidField):
        FieldMeta.from_json(text)


@pytest.mark.parametrize(
    ("values", "mask"),
    [
        (np.zeros((1, 2, 16, 15), np.float32), None),
        (np.zeros((2, 16, 16), np.float32), None),
        (np.zeros((0, 2, 16, 16), np.float32), None),
        (np.zeros((1, 2, 16, 16), np.float64), None),
        (np.zeros((1, 2, 16, 16), np.float32), np.ones((1, 1, 16, 16), bool)),
        (np.zeros((1, 2, 16, 16), np.float32), np.ones((1, 2, 16, 16), np.uint8)),
    ],
)
def test_arrays_that_are_no_sequences_are_refused(values: np.ndarray, mask: np.ndarray | None) -> None:
    with pytest.raises(InvalidField):
        SequenceSet(values, mask, META)
