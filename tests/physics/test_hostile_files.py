"""Files made to break a reader: each is refused with the value, the limit and what to do, in little memory and time."""

from __future__ import annotations

import json
import resource
import shutil
import sys
import time
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numcodecs
import numpy as np
import pytest
import xarray as xr

from benchmarks import hostile_files, sample_files
from benchmarks.sample_files import COLUMNS, FRAMES, ROWS
from nvp_agentkit.arrayfile import limits, open_array
from nvp_agentkit.errors import InvalidFile, MissingExtra
from nvp_agentkit.fields.readers import Meant, take_in

Make = Callable[[Path], None]
MAPS = np.random.default_rng(0).uniform(1, 2, (FRAMES, ROWS, COLUMNS)).astype(np.float32)


def climate(**changes: Any) -> Make:
    """The climate file, other coordinates or variables in it."""

    def make(path: Path) -> None:
        sample_files.dataset(MAPS).assign(**changes).to_netcdf(path, engine="h5netcdf")

    return make


def times(*values: float, units: str = "days since 2001-01-01") -> Make:
    return climate(time=("time", list(values), {"units": units}))


def hdf5(build: Callable[[h5py.File], Any], **words: Any) -> Make:
    def make(path: Path) -> None:
        with h5py.File(path, "w", **words) as file:
            build(file)

    return make


def external_link(file: h5py.File) -> None:
    file["rain"] = h5py.ExternalLink("/etc/passwd", "/rain")


def virtual(file: h5py.File) -> None:
    layout = h5py.VirtualLayout(MAPS.shape, "f4")
    layout[...] = h5py.VirtualSource("/etc/passwd", "rain", MAPS.shape)
    file.create_virtual_dataset("rain", layout)


def outside(file: h5py.File) -> None:
    file.create_dataset("rain", MAPS.shape, "f4", external=[("/etc/passwd", 0, MAPS.nbytes)])


def terabytes(file: h5py.File) -> None:
    file.create_dataset("rain", (10**6, 10**4, 10**4), "f4", chunks=(1, 10**4, 10**3))
    file["rain"][0, 0, 0] = 1


def bomb(file: h5py.File) -> None:
    """A chunk that says 18 kB and unpacks to 64 MB."""
    rain = file.create_dataset("rain", MAPS.shape, "f4", chunks=MAPS.shape, compression="gzip")
    rain.id.write_direct_chunk((0, 0, 0), zlib.compress(bytes(1 << 26), 1))


def nested(file: h5py.File) -> None:
    group: Any = file
    for _ in range(10):
        group = group.create_group("deeper")


def circle(file: h5py.File) -> None:
    """Each group links twice to itself and back to the top, and an axis refers to nothing that is there."""
    file["a/rain"] = MAPS
    for name in ("one", "two"):
        file[f"a/{name}"], file[f"a/{name}-top"] = file["a"], file["/"]


def truncated(path: Path) -> None:
    sample_files.hdf5(path)
    path.write_bytes(path.read_bytes()[:-3000])


def netcdf3_promising(path: Path) -> None:
    """(4, 16, 18) becomes (4, 16, 2147483647)."""
    sample_files.netcdf3(path)
    whole = path.read_bytes()
    lon = b"\0\0\0\x03lon\0" + COLUMNS.to_bytes(4, "big")
    assert lon in whole
    path.write_bytes(whole.replace(lon, lon[:-4] + b"\x7f\xff\xff\xff"))


def netcdf3_text(path: Path) -> None:
    xr.Dataset({"rain": (("time", "y", "x"), np.full(MAPS.shape, "w", "S1"))}).to_netcdf(path, engine="scipy")


def zarr(version: int, **words: Any) -> Make:
    """The Zarr store, some words of its array's description replaced."""

    def make(path: Path) -> None:
        sample_files.zarr_folder(path, version)
        about = path / "rain" / ("zarr.json" if version == 3 else ".zarray")
        about.write_text(json.dumps(json.loads(about.read_text()) | words))

    return make


def zarr_bomb(version: int, packed: Callable[[bytes], bytes], **words: Any) -> Make:
    """The first chunk of a Zarr store is small enough and unpacks to 8 MB instead of 1,728 bytes."""

    def make(path: Path) -> None:
        zarr(version, **words)(path)
        first = path / "rain" / ("c/0/0/0" if version == 3 else "0.0.0")
        first.write_bytes(packed(bytes(1 << 23)))

    return make


def linked_out(path: Path) -> None:
    sample_files.zarr_folder(path)
    (path / "rain" / "c" / "0" / "0" / "0").unlink()
    (path / "rain" / "c" / "0" / "0" / "0").symlink_to("/etc/passwd")


def zip_bomb(path: Path) -> None:
    """Thirty-two megabytes of zeros and an honest header."""
    header = np.lib.format.header_data_from_array_1_0(np.empty((128, 256, 256), "f4"))
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive, archive.open("rain.npy", "w") as out:
        np.lib.format.write_array_header_1_0(out, header)
        out.write(bytes(1 << 25))


def many_arrays(path: Path) -> None:
    with path.open("wb") as file:
        np.savez(file, **{f"a{number}": np.zeros(1) for number in range(300)})


def bytes_of(data: bytes) -> Make:
    return lambda path: path.write_bytes(data) and None


def gzip_bomb(data: bytes) -> bytes:
    packing = zlib.compressobj(1, wbits=31)
    return packing.compress(data) + packing.flush()


def lzma_zip(path: Path) -> None:
    """A chunk packed by LZMA, whose dictionary may be told to take gigabytes."""
    sample_files.zarr_folder(path.with_name("folder"))
    with zipfile.ZipFile(path, "w", zipfile.ZIP_LZMA) as archive:
        for one in path.with_name("folder").rglob("*"):
            if one.is_file():
                how = zipfile.ZIP_STORED if "json" in one.name else zipfile.ZIP_LZMA
                archive.write(one, one.relative_to(path.with_name("folder")), how)


GZIP = [{"name": "bytes", "configuration": {"endian": "little"}}, {"name": "gzip", "configuration": {"level": 1}}]
KERCHUNK = b'{"version":1,"refs":{"rain/0.0.0":["http://example.org/rain",0,100]}}'
REFUSED: dict[str, tuple[Make, str]] = {
    "times twice": (times(0, 1, 1, 2), "frames 1 and 2 are at 1 and 1, twice; sort the frames by time"),
    "times decreasing": (times(0, 1, 3, 2), "frames 2 and 3 are at 3 and 2, decreasing"),
    "times with a gap": (times(0, 1, 2, 9), "frames 2 and 3 are 7 apart, most 1, limit 10%"),
    "a time of NaN": (times(0, 1, np.nan, 3), "time 2 is not finite; give each frame its time"),
    "times in kelvin": (times(0, 1, 2, 3, units="K"), "units 'K' are no time; give seconds"),
    "times since nonsense": (times(0, 1, 2, 3, units="days since tomorrow"), "are no time"),
    "times as text": (climate(time=("time", ["a", "b", "c", "d"])), "time: an axis of"),
    "distances in kelvin": (
        climate(lat=("lat", np.arange(16.0), {"units": "K"}), lon=("lon", np.arange(18.0), {"units": "K"})),
        "units 'k' are no distance; known are m, km and degrees",
    ),
    "metres beside degrees": (climate(lat=("lat", np.arange(16.0), {"units": "m"})), "both in metres or both in"),
    "metres called degrees": (
        climate(lat=("lat", 1e5 * np.arange(16.0), {"units": "degrees_north"})), "limit 720; correct its units",
    ),
    "latitudes in no order": (
        climate(lat=("lat", np.arange(16.0) % 5, {"units": "degrees_north"})), "neither ascend nor descend",
    ),
    "an axis too many": (
        lambda path: sample_files.dataset(MAPS).expand_dims(depth=[1, 2]).to_netcdf(path, engine="h5netcdf") and None,
        "axis 'depth' of 2 steps beside time, rows and columns",
    ),
    "no time": (
        lambda path: xr.Dataset({"h": (("lat", "lon", "depth"), MAPS)}).to_netcdf(path, engine="h5netcdf") and None,
        "4 cells|limit 16 a side|give time, rows and columns",
    ),
    "infinite": (climate(rain=(("time", "lat", "lon"), np.where(MAPS > 1.99, np.inf, MAPS))), "inf at .0, .*limit 1e"),
    "scaled by infinity": (climate(rain=(("time", "lat", "lon"), MAPS, {"scale_factor": np.inf})), "scale_factor"),
    "text": (climate(rain=(("time", "lat", "lon"), np.full(MAPS.shape, "w"))), "real numbers"),
    "complex": (hdf5(lambda file: file.create_dataset("rain", data=MAPS.astype(complex))), "real numbers"),
    "an external link": (hdf5(external_link), "linked to another file"),
    "a virtual dataset": (hdf5(virtual), "layout of HDF5 1.10|virtual"),
    "values in another file": (hdf5(outside), "its values are in other files"),
    "the latest layout": (
        hdf5(lambda file: file.create_dataset("rain", data=MAPS, chunks=(1, 16, 18)), libver="latest"),
        "h5repack --low=0 --high=1",
    ),
    "a filter nobody has": (
        hdf5(lambda file: file.create_dataset("rain", data=MAPS, compression="lzf")), "filter 32000, known are 1 to 3",
    ),
    "terabytes in HDF5": (hdf5(terabytes), "100,000,000,000,000 cells, limit 268,435,456"),
    "an HDF5 chunk that is a bomb": (hdf5(bomb), "more than the 4,608 bytes it promises"),
    "groups in groups": (hdf5(nested), "8 groups deep"),
    "groups in a circle": (hdf5(circle), "more than 1024 objects or 8 groups deep"),
    "a user block": (
        hdf5(lambda file: file.create_dataset("rain", data=MAPS), userblock_size=512), "starts with|bytes before",
    ),
    "truncated HDF5": (truncated, "cut short|broken"),
    "terabytes in NetCDF 3": (netcdf3_promising, "needs 412,316,860,240 bytes, not 3,472"),
    "text in NetCDF 3": (netcdf3_text, "real numbers"),
    "an object codec": (zarr(2, compressor={"id": "pickle"}), "codec 'pickle', known are zlib, gzip"),
    "an object filter": (zarr(2, filters=[{"id": "pickle"}]), "filter 'pickle', known is shuffle"),
    "objects": (zarr(2, dtype="|O", filters=[{"id": "vlen-utf8"}]), "vlen-utf8"),
    "objects without a codec": (zarr(2, dtype="|O"), "real numbers"),
    "a codec nobody has": (zarr(3, codecs=[GZIP[0], {"name": "zfp"}]), "codec 'zfp', known are"),
    "shards": (zarr(3, codecs=[{"name": "sharding_indexed", "configuration": {}}]), "'sharding_indexed' comes first"),
    "chunks kept elsewhere": (zarr(3, storage_transformers=[{"name": "s3"}]), "kept elsewhere"),
    "a huge chunk": (zarr(2, chunks=[10**5, 10**5, 10**5]), "limit 268,435,456; rechunk it"),
    "a chunk a cell": (zarr(2, shape=[4000, 16, 18], chunks=[1, 1, 1]), "1,152,000 chunks of .*limit 131,072"),
    "a chunk of nothing": (zarr(2, chunks=[0, 16, 18]), "do not fit"),
    "terabytes in Zarr": (zarr(2, shape=[10**6, 10**4, 10**4]), "cells, limit 268,435,456"),
    "a negative shape": (zarr(2, shape=[-4, 16, 18]), "sides"),
    "a shape of text": (zarr(3, shape=["a", "b"]), "described wrongly"),
    "more than it packs": (zarr(2, shape=[40_000, 16, 18]), "times the packing limit 900"),
    "a gzip chunk that is a bomb": (zarr_bomb(3, gzip_bomb, codecs=GZIP), "more than the 1,728 bytes it promises"),
    "a zstd chunk that is a bomb": (zarr_bomb(3, numcodecs.Zstd().encode), "destination buffer too small"),
    "a blosc chunk that is a bomb": (zarr_bomb(2, numcodecs.Blosc().encode), "more than the 1,728 bytes it promises"),
    "a link out of the folder": (linked_out, "links to /etc/passwd, outside"),
    "references to a server": (bytes_of(KERCHUNK), "starts with"),
    "GRIB": (bytes_of(b"GRIB\0\0\0\2" + bytes(99)), "GRIB; convert it to NetCDF"),
    "a TIFF": (bytes_of(b"II*\0" + bytes(99)), "a TIFF; convert it to NetCDF"),
    "gzip": (bytes_of(gzip_bomb(b"CDF\1")), "unpack it"),
    "a zip bomb": (zip_bomb, "times the packing limit 900"),
    "a zip packed by LZMA": (lzma_zip, "packed by method 14 in the zip file; store it unpacked"),
    "too many arrays": (many_arrays, "holds 300 arrays, limit 256"),
}  # fmt: skip


@pytest.mark.parametrize("case", REFUSED)
def test_a_hostile_file_is_refused_in_little_memory_and_time(tmp_path: Path, case: str) -> None:
    make, said = REFUSED[case]
    make(tmp_path / "x")
    before_kb, began = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, time.process_time()
    with pytest.raises(InvalidFile, match=said) as refusal:
        take_in(tmp_path / "x", tmp_path / "out", Meant("rain"))
    assert time.process_time() - began < 2
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before_kb < 200 * 1024
    assert str(refusal.value).count(";") >= 1 or ", " in str(refusal.value)  # what to do stands after the fact
    if (tmp_path / "x").is_dir():
        shutil.rmtree(tmp_path / "x")


@pytest.mark.parametrize(("name", "package"), [("netcdf4", "pyfive"), ("zarr3", "numcodecs")])
def test_what_reads_a_format_is_an_extra(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, package: str
) -> None:
    sample_files.FORMATS[name](tmp_path / "x")
    monkeypatch.setitem(sys.modules, package, None)  # as if it were not installed
    monkeypatch.setattr("nvp_agentkit.arrayfile.zarrs.find_spec", sys.modules.get)
    with pytest.raises(MissingExtra, match=rf"{package} is not installed; pip install 'nvp-agentkit\[data\]'"):
        take_in(tmp_path / "x", tmp_path / "out", Meant("rain"))


def test_memory_has_a_last_wall(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever a library allocates, beyond the limit it becomes a refusal, and the limit is gone afterwards."""
    monkeypatch.setattr(limits, "MEMORY", 64 << 20)
    before = resource.getrlimit(resource.RLIMIT_AS)
    with pytest.raises(InvalidFile, match="x: unpacks to more memory than the limit"), limits.guarded("x"):
        bytearray(1 << 28)
    assert resource.getrlimit(resource.RLIMIT_AS) == before
    assert len(bytearray(1 << 28)) == 1 << 28


def test_a_window_beyond_the_limit_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sample_files.npy(tmp_path / "x")
    monkeypatch.setattr("nvp_agentkit.arrayfile.opened.MAX_CELLS", 600)
    with open_array(tmp_path / "x") as opened:
        opened.window(0, 0, 2)
        with pytest.raises(InvalidFile, match="864 cells in 3 frames, limit 600"):
            opened.window(0, 0, 3)


def test_broken_files_by_the_hundred_are_read_or_refused(tmp_path: Path) -> None:
    """The benchmark `hostile_files` tries 20,000."""
    valid = hostile_files.samples(tmp_path)
    outcomes = [hostile_files.outcome(hostile_files.mutant(number, valid), tmp_path) for number in range(300)]
    assert set(outcomes) == {"read", "refused"}
