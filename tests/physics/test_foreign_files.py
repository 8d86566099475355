"""NetCDF, HDF5 and Zarr become sequences that mean what the file says, however large it is."""

from __future__ import annotations

import io
import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import xarray as xr

from benchmarks import sample_files
from benchmarks.sample_files import COLUMNS, FORMATS, FRAMES, ROWS
from nvp_agentkit.arrayfile import file_and_array, open_array
from nvp_agentkit.arrayfile.units import same_units
from nvp_agentkit.arrayfile.variable import slab
from nvp_agentkit.cli.frames import read_frames
from nvp_agentkit.client.bringing import as_one_file
from nvp_agentkit.errors import InvalidFile, InvalidInput
from nvp_agentkit.fields import FieldMeta, SequenceSet, open_sequences, readers, save
from nvp_agentkit.fields.masking import fill_invalid
from nvp_agentkit.fields.readers import Meant, take_in
from nvp_agentkit.fields.writers import write_netcdf, write_zarr

DEGREE_M = 6_371_000 * np.pi / 180


def taken(path: Path, array: str | None = None, **said: Any) -> SequenceSet:
    out = path.with_name(f"{path.name}-taken")
    take_in(path, out, Meant("rain", **said), array=array)
    return open_sequences(out)


@pytest.fixture(scope="session")
def samples(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a file of each format."""
    folder = tmp_path_factory.mktemp("samples")
    for name, make in FORMATS.items():
        make(folder / name)
    return folder


@pytest.mark.parametrize("name", FORMATS)
def test_each_format_gives_the_values_and_nan_as_their_mask(samples: Path, name: str) -> None:
    got = taken(samples / name)
    wanted = sample_files.field(got.trajectories)
    assert got.mask is not None
    np.testing.assert_array_equal(got.mask, ~np.isnan(wanted))
    np.testing.assert_allclose(got.values[got.mask], wanted[got.mask], atol=0.001 if name == "netcdf4" else 0)
    with open_array(samples / name) as opened:
        np.testing.assert_array_equal(np.isnan(opened.window(0, 1, 2)), ~got.mask[0, 1:3])


@pytest.mark.parametrize("name", ["netcdf3", "netcdf4", "zarr2", "zarr3"])
def test_cf_attributes_say_units_times_and_distances_as_xarray_reads_them(samples: Path, name: str) -> None:
    meta = taken(samples / name).meta
    dataset = sample_files.dataset(sample_files.field()[0])
    assert (meta.units, meta.dt_s, meta.positive) == ("mm h-1", 6 * 3600, True)
    assert np.datetime64(meta.start_ms, "ms") == dataset.time.values[0]
    middle = np.cos(np.radians(float(dataset.lat.mean())))
    assert meta.dx_m == pytest.approx(0.5 * DEGREE_M * np.sqrt(middle))
    assert meta.provenance["spacing"] == pytest.approx([0.5 * DEGREE_M, 0.5 * DEGREE_M * middle])


@pytest.mark.parametrize("name", ["netcdf3", "netcdf4", "zarr2", "zarr3"])
def test_rows_and_columns_keep_their_coordinates_and_a_file_that_begins_in_the_north_says_so(
    samples: Path, name: str
) -> None:
    with open_array(samples / name) as opened:
        rows, columns = opened.meaning.rows, opened.meaning.columns
    assert rows is not None
    assert columns is not None
    assert (rows.name, columns.name) == ("lat", "lon")
    np.testing.assert_array_equal(rows.values, 40 - 0.5 * np.arange(ROWS))
    assert (rows.attrs["units"], columns.attrs["units"]) == ("degrees_north", "degrees_east")
    assert taken(samples / name).meta.provenance["rows_descend"] is True
    with open_array(samples / "well", "rain") as opened:
        assert "rows_descend" not in opened.meaning.facts


def test_the_wells_layout_has_its_axes_trajectories_and_boundaries(samples: Path) -> None:
    meta = taken(samples / "well", "rain").meta
    assert (meta.boundary, meta.dt_s, meta.dx_m) == (("reflecting", "periodic"), 0.25, pytest.approx(0.1))
    assert meta.provenance["time_unit"] == "the file's own"
    with pytest.raises(InvalidFile, match=r"t1_fields/wind: of several components; write one of them alone"):
        taken(samples / "well", "wind")


@pytest.mark.parametrize(
    "order", [("lat", "lon", "time"), ("lon", "time", "level", "lat"), ("member", "lat", "time", "lon")]
)
@pytest.mark.parametrize("kind", ["nc", "zarr"])
def test_axes_may_stand_in_any_order(tmp_path: Path, order: tuple[str, ...], kind: str) -> None:
    dataset = sample_files.dataset(sample_files.field()[0])
    dataset = dataset.assign(other=2 * dataset.rain).expand_dims(
        [name for name in ("level", "member") if name in order]
    )
    path = tmp_path / "x"
    if kind == "nc":
        dataset.transpose(*order).to_netcdf(path, engine="h5netcdf")
    else:
        dataset.transpose(*order).to_zarr(path, zarr_format=2)
    np.testing.assert_array_equal(np.isnan(sample_files.field()), taken(path, "rain").mask == 0)
    with open_array(path, "rain") as opened:
        np.testing.assert_array_equal(opened.window(0, 1, 3), sample_files.field()[0, 1:4])
    with pytest.raises(InvalidFile, match=r"several could be meant: .*rain.*Name one as FILE:NAME"):
        taken(path)


def test_a_folder_and_a_zip_file_of_it_are_one_store(samples: Path) -> None:
    folder = taken(samples / "zarr3-folder")
    for name in ("sent", "again"):
        with as_one_file(samples / "zarr3-folder") as file:
            (samples / name).write_bytes(file.read())
    np.testing.assert_array_equal(taken(samples / "sent").values, folder.values)
    assert (samples / "sent").read_bytes() == (samples / "again").read_bytes()
    assert file_and_array(f"{samples / 'zarr3-folder'}:rain") == (samples / "zarr3-folder", "rain")


def test_a_folder_with_a_link_that_leads_out_is_not_sent(tmp_path: Path) -> None:
    sample_files.zarr_folder(tmp_path / "store")
    (tmp_path / "secret").write_text("mine")
    (tmp_path / "store" / "chunk").symlink_to(tmp_path / "secret")
    with pytest.raises(InvalidInput, match=r"chunk links to .*secret, outside .*store; copy it in"):
        as_one_file(tmp_path / "store")


Change = Callable[[xr.Dataset], xr.Dataset]


def changed(path: Path, change: Change, **encoding: Any) -> Path:
    """The climate file with something else in it."""
    change(sample_files.dataset(sample_files.field()[0])).to_netcdf(path, engine="h5netcdf", encoding=encoding)
    return path


@pytest.mark.parametrize(
    ("attrs", "lost"),
    [
        ({"missing_value": np.float32([5.5, 6.5])}, (5.5, 6.5)),
        ({"valid_range": np.float32([0, 6])}, (6.5, 7.5)),
        ({"valid_min": np.float32(6)}, (5.5,)),
        ({}, (9.969209968386869e36,)),
    ],
)
def test_every_way_of_cf_to_say_missing_is_the_mask(tmp_path: Path, attrs: dict[str, Any], lost: tuple[float]) -> None:
    values = np.full((FRAMES, ROWS, COLUMNS), 6, np.float32)
    values[0, 0, :4] = 5.5, 6.5, 7.5, 9.969209968386869e36
    values[1, 0, 0] = 5.75
    raw = sample_files.dataset(values)
    raw.rain.attrs |= attrs
    raw.rain.encoding["_FillValue"] = None
    raw.to_netcdf(tmp_path / "x", engine="h5netcdf")
    got = taken(tmp_path / "x")
    assert got.mask is not None
    for value in lost:
        assert not got.mask[0][values == np.float32(value)].any()
    assert got.mask[0, 2:].all()


def test_unsigned_packing_and_integers_are_read(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "x", "w") as file:
        rain = file.create_dataset("rain", data=np.arange(256, dtype="u1").view("i1").reshape(1, 16, 16).repeat(3, 0))
        rain.attrs.update({"_Unsigned": b"true", "scale_factor": 0.5, "add_offset": 1.0})
    np.testing.assert_array_equal(taken(tmp_path / "x").values[0, 0].ravel(), 1 + np.arange(256) / 2)


def test_a_fill_value_of_zero_in_zarr_2_means_nothing(tmp_path: Path) -> None:
    values = np.nan_to_num(sample_files.field()[0])
    xr.Dataset({"rain": (("time", "y", "x"), values)}).to_zarr(
        tmp_path / "x", zarr_format=2, encoding={"rain": {"_FillValue": 0.0}}
    )
    (attrs := tmp_path / "x" / "rain" / ".zattrs").write_text(attrs.read_text().replace("_FillValue", "fill"))
    assert taken(tmp_path / "x").mask is None


@pytest.mark.parametrize("engine", ["h5netcdf", "scipy"])
def test_axes_without_coordinates_have_names_and_no_distances(tmp_path: Path, engine: Any) -> None:
    values = sample_files.field()[0].transpose(2, 0, 1)
    xr.Dataset({"rain": (("x", "time", "y"), values)}).to_netcdf(tmp_path / "x", engine=engine)
    got = taken(tmp_path / "x")
    assert got.values.shape == (1, FRAMES, ROWS, COLUMNS)
    assert (got.meta.dt_s, got.meta.dx_m, set(got.meta.provenance)) == (1.0, 1.0, {"file"})


def test_a_longitude_that_goes_around_is_periodic(tmp_path: Path) -> None:
    path = changed(tmp_path / "x", lambda file: file.assign_coords(lon=("lon", 20.0 * np.arange(COLUMNS),
                                                                        {"units": "degrees_east"})))  # fmt: skip
    assert taken(path).meta.boundary == ("open", "periodic")


@pytest.mark.parametrize(
    ("units", "calendar", "dt_s", "start"),
    [
        ("hours since 1900-1-1", "Gregorian", 3600, "1900-01-01T01"),
        ("minutes since 2001-02-03T04:05:06Z", None, 60, "2001-02-03T04:06:06"),
        ("days since 0001-01-01 00:00:00", "standard", 86400, "1970-01-01"),  # counts Julian days then: no first time
        ("days since 2001-01-01", "noleap", 86400, "1970-01-01"),
        ("ms", None, 0.001, "1970-01-01"),
    ],
)
def test_times_are_those_of_their_calendar(
    tmp_path: Path, units: str, calendar: str | None, dt_s: float, start: str
) -> None:
    said = {"units": units} | ({"calendar": calendar} if calendar else {})
    path = changed(tmp_path / "x", lambda file: file.assign_coords(time=("time", [1.0, 2.0, 3.0, 4.0], said)))
    meta = taken(path).meta
    assert (meta.dt_s, np.datetime64(meta.start_ms, "ms")) == (pytest.approx(dt_s), np.datetime64(start, "ms"))


def test_what_the_user_says_of_distances_wins_and_times_may_be_uneven_then(tmp_path: Path) -> None:
    path = changed(tmp_path / "x", lambda file: file.assign_coords(time=[1.0, 2.0, 4.0, 5.0]))
    with pytest.raises(InvalidFile, match="frames 1 and 2 are 2 apart, most 1, limit 10%; put frames of NaN"):
        taken(path)
    meta = taken(path, dt_s=120.0, dx_m=2000.0).meta
    assert (meta.dt_s, meta.dx_m) == (120, 2000)


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("mm/h", "mm h-1", True), ("mm hr**-1", "mm/hour", True), ("J m^-3", "J/m3", True), ("m2 s-2", "m^2/s^2", True),
        ("1", "", True), ("K", "degC", False), ("mm/h", "mm/s", False), ("n0 Te (rho_s/L_n)^2", "n0 Te", False),
        ("kg m-2 s-1", "kg/m2/s", True),
    ],
)  # fmt: skip
def test_units_are_one_however_they_are_written(one: str, other: str, same: bool) -> None:
    assert same_units(one, other) is same


def test_other_units_than_the_files_are_refused(samples: Path) -> None:
    assert taken(samples / "netcdf4", units="mm/h").meta.units == "mm/h"
    with pytest.raises(InvalidFile, match="in 'mm h-1' by its own word, 'K' was asked; leave units away"):
        taken(samples / "netcdf4", units="K")


@pytest.mark.parametrize("write", [write_netcdf, write_zarr])
@pytest.mark.parametrize("start_ms", [0, 1_560_168_000_000])
def test_what_is_written_is_read_back_and_means_the_same(tmp_path: Path, write: Any, start_ms: int) -> None:
    values = sample_files.field(2)
    mask = ~np.isnan(values)
    meta = FieldMeta("rain", "mm/h", 120.0, 1500.0, ("reflecting", "periodic"), "dissipative", positive=True,
                     provenance={"rows_descend": True}, start_ms=start_ms)  # fmt: skip
    filled = np.stack([fill_invalid(one, seen) for one, seen in zip(values, mask, strict=True)])
    write(SequenceSet(filled, mask, meta), tmp_path / "written")
    got = taken(tmp_path / "written")
    np.testing.assert_array_equal(got.values, filled)
    np.testing.assert_array_equal(got.mask, mask)
    assert got.meta.provenance["rows_descend"]
    assert replace(got.meta, provenance=meta.provenance) == meta
    opened: Any = xr.open_dataset if write is write_netcdf else xr.open_zarr
    with opened(tmp_path / "written", **({} if write is write_netcdf else {"consolidated": False})) as dataset:
        np.testing.assert_array_equal(dataset.energy.isnull(), ~mask)
        assert dataset.energy.attrs["units"] == "mm/h"
        if start_ms:
            assert dataset.time.values[1] == np.datetime64(start_ms + 120_000, "ms")


def test_reading_in_pieces_gives_the_bytes_of_reading_at_once(
    samples: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = taken(samples / "well")
    assert whole.mask is not None
    monkeypatch.setattr(readers, "CELLS_AT_ONCE", 1)
    pieces: list[tuple[int, int]] = []
    take_in(samples / "well", tmp_path / "p", Meant("rain"), progress=lambda *done: pieces.append(done))
    assert pieces == [(done, 2 * FRAMES) for done in range(1, 2 * FRAMES + 1)]
    assert (tmp_path / "p").read_bytes() == (samples / "well-taken").read_bytes()
    save(whole, tmp_path / "saved")
    assert (tmp_path / "saved").read_bytes() == (tmp_path / "p").read_bytes()
    values = sample_files.field(2)
    for number, (one, seen) in enumerate(zip(values, ~np.isnan(values), strict=True)):
        np.testing.assert_array_equal(whole.values[number], fill_invalid(one, seen))


class Counting(io.BytesIO):
    """Knows how much was read of it."""

    count = 0

    def readinto(self, room: Any) -> int:
        self.count += (came := super().readinto(room))
        return came


def test_of_several_trajectories_only_the_frames_in_question_are_read() -> None:
    values = sample_files.field(3)
    stream = Counting(b"head" + values.tobytes())
    part = (slice(2, 3), slice(1, 3), slice(0, ROWS), slice(0, COLUMNS))
    np.testing.assert_array_equal(slab(stream, 4, values.shape, values.dtype, part), values[part])
    assert stream.count == values[part].nbytes


STREAMED = """
import resource, sys
from pathlib import Path
import cv2, pyfive
from nvp_agentkit.fields.readers import Meant, take_in
limit = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize() + (100 << 20)
resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
path = Path(sys.argv[1])
assert path.stat().st_size > limit, (path.stat().st_size, limit)
print(take_in(path, path.with_name("taken"), Meant("x")).shape)
try:
    bytearray(path.stat().st_size)
except MemoryError:
    print("and it did not fit")
"""


@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="address space is limited on Linux")
@pytest.mark.parametrize("kind", ["npy", "hdf5"])
def test_a_file_larger_than_memory_passes_through(tmp_path: Path, kind: str) -> None:
    """Sparse: 450 MB by its size, hardly any on the disk."""
    shape = (215, 512, 512)
    if kind == "npy":
        values = np.lib.format.open_memmap(tmp_path / "x.npy", "w+", np.float64, shape)
        values[200, 5, 5] = 1.0
        del values
    else:
        with h5py.File(tmp_path / "x.npy", "w") as file:
            file.create_dataset("x", shape, np.float64)[200, 5, 5] = 1.0
    done = subprocess.run(
        [sys.executable, "-c", STREAMED, tmp_path / "x.npy"],
        capture_output=True, text=True, check=False, env=os.environ | {"OPENBLAS_NUM_THREADS": "1"},
    )  # fmt: skip
    assert done.stdout.splitlines() == [f"{(1, *shape)}", "and it did not fit"], done.stderr
    (tmp_path / "taken").unlink()


def test_a_forecast_is_asked_with_what_the_file_says(samples: Path) -> None:
    said = read_frames(f"{samples / 'netcdf3'}:rain", frame=3, fill=0).said
    assert said["frame_time"] == np.datetime64("2001-02-03T18", "ms")
    assert (said["units"], said["dt_s"]) == ("mm h-1", 6 * 3600)
    assert read_frames(f"{samples / 'well'}", fill=0).said == {}  # its own units are no seconds and no metres
