"""One small valid file of each format that is read, to be read, broken and compared."""

from __future__ import annotations

import warnings
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import numpy.typing as npt
import xarray as xr

Values = npt.NDArray[np.float32]
FRAMES, ROWS, COLUMNS = 4, 16, 18


def field(trajectories: int = 1) -> Values:
    """(N, T, H, W), the same each time; one cell of land, another that is missing for two frames."""
    values = np.random.default_rng(7).uniform(1, 9, (trajectories, FRAMES, ROWS, COLUMNS)).astype(np.float32)
    values[:, :, 3, 4] = values[0, 1:3, 8, 8] = np.nan
    return values


def dataset(values: Values) -> xr.Dataset:
    """As a climate archive would have it."""
    days = np.datetime64("2001-02-03T06", "ns") + np.arange(FRAMES) * np.timedelta64(6, "h")
    coordinates: dict[str, Any] = {
        "time": ("time", days, {"standard_name": "time"}),
        "lat": ("lat", 40 - 0.5 * np.arange(ROWS), {"units": "degrees_north"}),
        "lon": ("lon", 0.5 * np.arange(COLUMNS), {"units": "degrees_east"}),
    }
    return xr.Dataset({"rain": (("time", "lat", "lon"), values, {"units": "mm h-1"})}, coordinates)


def npy(path: Path) -> None:
    with path.open("wb") as file:
        np.save(file, field(), allow_pickle=False)


def npz(path: Path) -> None:
    with path.open("wb") as file:
        np.savez_compressed(file, rain=field(), days=np.arange(FRAMES), allow_pickle=False)


def netcdf4(path: Path) -> None:
    packed = {"dtype": "i2", "scale_factor": 0.001, "_FillValue": -32768, "zlib": True, "chunksizes": (2, 16, 9)}
    dataset(field()[0]).to_netcdf(path, engine="h5netcdf", encoding={"rain": packed})


def netcdf3(path: Path) -> None:
    dataset(field()[0]).to_netcdf(path, engine="scipy", unlimited_dims=["time"])


def well(path: Path) -> None:
    """The Well's groups; rows are its second axis of space."""
    with h5py.File(path, "w") as file:
        file["t0_fields/rain"] = field(2).transpose(0, 1, 3, 2)
        file.create_dataset("t1_fields/wind", data=np.zeros((2, FRAMES, COLUMNS, ROWS, 2), np.float32))
        dimensions = file.create_group("dimensions")
        dimensions.attrs["spatial_dims"] = ["x", "y"]
        for name, count, step in (("time", FRAMES, 0.25), ("x", COLUMNS, 0.1), ("y", ROWS, 0.1)):
            dimensions[name] = step * np.arange(count)
        for name, side in (("x_periodic", COLUMNS), ("y_wall", ROWS)):
            file[f"boundary_conditions/{name}/mask"] = np.zeros(side, bool)


def hdf5(path: Path) -> None:
    """Nothing but an array, with every filter that is known."""
    with h5py.File(path, "w") as file:
        file.create_dataset(
            "rain", data=field(), chunks=(1, 2, 16, 18), compression="gzip", shuffle=True, fletcher32=True
        )


def zarr_folder(path: Path, version: int = 3) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # xarray's, on consolidated metadata of version 3
        dataset(field()[0]).to_zarr(path, mode="w", zarr_format=version, encoding={"rain": {"chunks": (3, 8, 18)}})


def zarr2(path: Path) -> None:
    _zipped(path, 2)


def zarr3(path: Path) -> None:
    _zipped(path, 3)


def _zipped(path: Path, version: int) -> None:
    folder = path.with_name(f"{path.name}-folder")
    zarr_folder(folder, version)
    with zipfile.ZipFile(path, "w") as archive:
        for one in sorted(folder.rglob("*")):
            if one.is_file():
                archive.write(one, one.relative_to(folder))


FORMATS: dict[str, Callable[[Path], None]] = {
    "npy": npy, "npz": npz, "netcdf3": netcdf3, "netcdf4": netcdf4, "well": well, "hdf5": hdf5, "zarr2": zarr2,
    "zarr3": zarr3,
}  # fmt: skip
