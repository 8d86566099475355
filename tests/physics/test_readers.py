"""A user's file becomes sequences, or one sentence that says what to fix."""

import contextlib
import io
import warnings
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nvp_agentkit.errors import InvalidFile
from nvp_agentkit.fields import SequenceSet, open_sequences
from nvp_agentkit.fields.readers import Meant, take_in


def field(*shape: int, dtype: str = "float32") -> np.ndarray:
    return np.random.default_rng(0).uniform(0, 100, shape).astype(dtype)


def npy(array: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, array, allow_pickle=True)
    return buffer.getvalue()


def npz(**arrays: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    np.savez_compressed(buffer, **arrays)
    return buffer.getvalue()


def taken(path: Path, array: str | None = None, units: str = "J") -> SequenceSet:
    """What a file becomes."""
    out = path.with_name("taken")
    take_in(path, out, Meant("mine", units), array=array)
    return open_sequences(out)


Read = Callable[..., SequenceSet]


@pytest.fixture
def read(tmp_path: Path) -> Read:
    def read(data: bytes, array: str | None = None) -> SequenceSet:
        (tmp_path / "mine").write_bytes(data)
        return taken(tmp_path / "mine", array)

    return read


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64", ">f4", "uint8", "int64"])
def test_any_real_dtype_is_read(read: Read, dtype: str) -> None:
    values = field(3, 16, 20, dtype=dtype)
    got = read(npy(values))
    np.testing.assert_array_equal(got.values[0], values.astype(np.float32))
    assert (got.mask, got.meta.units, got.meta.positive, got.values.dtype) == (None, "J", True, np.float32)


def test_fortran_order_and_several_trajectories_are_read(read: Read) -> None:
    values = field(2, 3, 16, 20)
    np.testing.assert_array_equal(read(npy(np.asfortranarray(values))).values, values)


def test_nan_is_a_mask_that_may_change_with_time_and_is_filled_from_the_past(read: Read) -> None:
    values = field(3, 16, 16)
    values[1, 2, 3] = np.nan
    values[:, 8:, 8:] = np.nan
    got = read(npy(values))
    assert got.mask is not None
    np.testing.assert_array_equal(got.mask[0], ~np.isnan(values))
    assert np.isfinite(got.values).all()
    assert got.values[0, 1, 2, 3] == values[0, 2, 3]
    assert got.values[0, 0, 12, 12] > 10  # the land looks like its surroundings, not like an abyss


def test_the_one_array_that_can_be_meant_is_found(read: Read) -> None:
    values = field(3, 16, 16)
    assert read(npz(rain=values, dt=np.array(2), lat=np.arange(16.0))).meta.provenance == {"file": "mine:rain"}


def test_an_array_is_chosen_by_name(read: Read) -> None:
    data = npz(a=field(3, 16, 16), b=2 * field(3, 16, 16))
    np.testing.assert_array_equal(read(data, "b").values[0], 2 * field(3, 16, 16))
    for array, said in (
        (None, "several could be meant; arrays there: a, b"),
        ("c", "no array 'c'; arrays there: a, b"),
    ):
        with pytest.raises(InvalidFile, match=said):
            read(data, array)


class Trap:
    """Would tell if anybody unpickled it."""

    def __reduce__(self) -> tuple[object, ...]:
        return warnings.warn, ("unpickled",)


def with_infinity() -> np.ndarray:
    values = field(3, 16, 16)
    values[1, 2, 3] = np.inf
    return values


REFUSED = {
    "inf": (npy(with_infinity()), "inf at .0, 1, 2, 3., limit 1e.15"),
    "beyond float32": (npy(1e200 * field(3, 16, 16, dtype="float64")), "limit 1e.15"),
    "squares beyond float32": (npy(1e19 * field(3, 16, 16)), "or change the unit"),
    "object": (npy(np.full((3, 16, 16), Trap(), object)), "nothing is unpickled"),
    "text": (npy(np.full((3, 16, 16), "warm")), "not an array of real numbers"),
    "complex": (npy(field(3, 16, 16).astype(complex)), "convert it to float32"),
    "bool": (npy(field(3, 16, 16) > 50), "convert it to float32"),
    "structured": (npy(np.zeros((3, 16, 16), [("u", "f4"), ("v", "f4")])), "not an array of real numbers"),
    "too small": (npy(field(3, 16, 15)), "limit 16 a side"),
    "two axes": (npy(field(16, 16)), "give .T, H, W."),
    "empty": (npy(field(0, 16, 16)), "no axis empty"),
    "all nan": (npy(np.full((3, 16, 16), np.nan)), "at least one must be observed"),
    "constant": (npy(np.ones((3, 16, 16))), "every value is 1"),
    "cut short": (npy(field(3, 16, 16))[:-1], "copy it again"),
    "csv": (b"1,2,3\n", "give a .npy or .npz"),
    "nothing": (b"", "give a .npy or .npz"),
    "zip of rubbish": (b"PK\x03\x04" + bytes(100), "broken or encrypted"),
    "name in no alphabet": (npz(é=field(3, 16, 16)).replace("é".encode(), b"\xff\xff"), "broken or encrypted"),
    "no arrays": (npz(), "give a .npy"),
    "promises terabytes": (
        npy(field(3, 16, 16)).replace(b"(3, 16, 16), }      ", b"(99999, 9999, 9999)}"),
        "needs 39,991,600,479,996 bytes, not 3,200",
    ),
    "endless header": (b"\x93NUMPY\x02\x00\xff\xff\xff\xff" + b" " * 100, "header of 4,294,967,295 bytes"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_a_file_we_cannot_use_is_refused_with_value_limit_and_remedy(read: Read, case: str) -> None:
    data, said = REFUSED[case]
    with pytest.raises(InvalidFile, match=said):
        read(data)


def archive_of(header: bytes, zeros: int, claimed: int | None = None) -> bytes:
    buffer = io.BytesIO()
    with (
        zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive,
        archive.open("a.npy", "w", force_zip64=True) as out,
    ):
        out.write(header)
        for _ in range(zeros >> 20):
            out.write(bytes(1 << 20))
    data = buffer.getvalue()
    if claimed is not None:
        real = (len(header) + zeros).to_bytes(4, "little")
        assert real in data
        data = data.replace(real, claimed.to_bytes(4, "little"))
    return data


def header_for(*shape: int) -> bytes:
    buffer = io.BytesIO()
    np.lib.format.write_array_header_1_0(buffer, {"descr": "<f4", "fortran_order": False, "shape": shape})
    return buffer.getvalue()


def test_a_zip_bomb_is_refused_before_it_is_unpacked(read: Read) -> None:
    bomb = archive_of(header_for(128, 256, 256), zeros=32 << 20)
    assert len(bomb) < 100_000
    with pytest.raises(InvalidFile, match="times the packing limit 900"):
        read(bomb)


def test_an_archive_that_overstates_its_size_is_found_out(read: Read) -> None:
    header = header_for(1024, 256, 256)
    with pytest.raises(InvalidFile, match="needs 268,435,456 bytes"):
        read(archive_of(header, zeros=1 << 20))
    with pytest.raises(InvalidFile, match=r"ends after|broken|needs"):
        read(archive_of(header, zeros=1 << 20, claimed=1 << 29))


def test_a_missing_file_and_a_folder_are_refused(tmp_path: Path) -> None:
    for path in (tmp_path / "nowhere", tmp_path):
        with pytest.raises(InvalidFile, match="no such file"):
            taken(path)


@given(st.sampled_from([npy(field(2, 16, 16)), npz(a=field(2, 16, 16), b=field(3))]), st.data())
def test_flipped_bytes_give_sequences_or_a_refusal_and_nothing_else(
    tmp_path_factory: pytest.TempPathFactory, whole: bytes, data: st.DataObject
) -> None:
    spoilt = bytearray(whole)
    for place in data.draw(st.lists(st.integers(-200, 200), min_size=1, max_size=6)):
        spoilt[place] = data.draw(st.integers(0, 255))
    path = tmp_path_factory.getbasetemp() / "spoilt.npz"
    path.write_bytes(spoilt)
    with contextlib.suppress(InvalidFile):
        assert np.isfinite(taken(path).values).all()
