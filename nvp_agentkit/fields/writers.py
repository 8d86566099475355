"""Sequences as files that others read: NetCDF-4 and Zarr after CF-1.11, written some frames at a time.

One variable ``energy`` (realization, time, y, x) and one of each channel, missing where nothing was observed. What CF
has no word for stands in the attributes ``nvp_boundary``, ``nvp_conservation`` and ``nvp_channels`` of the first;
`nvp_agentkit.arrayfile` reads them back.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from nvp_agentkit.arrayfile import ROWS_DESCEND
from nvp_agentkit.errors import InvalidField, MissingExtra
from nvp_agentkit.fields.sequence import Floats, SequenceSet

AXES = ("realization", "time", "y", "x")
CELLS_A_CHUNK = 2**20  # 4 MiB; at least a frame
Place = tuple[slice, slice]


def write_netcdf(sequences: SequenceSet, path: Path) -> None:
    """Write ``sequences`` to ``path``, replacing what is there.

    Raises:
        MissingExtra: h5netcdf is not installed.
    """
    try:
        import h5netcdf
    except ImportError as error:
        raise MissingExtra.of("h5netcdf", extra="data") from error
    shape = sequences.values.shape
    with h5netcdf.File(path, "w") as file:
        file.attrs.update(_attributes(sequences))
        file.dimensions = dict(zip(AXES, shape, strict=True))
        for name, values, attrs in _coordinates(sequences):
            file.create_variable(name, (name,), data=values).attrs.update(attrs)
        for name, about, pieces in _variables(sequences):
            variable = file.create_variable(
                name, AXES, np.float32, chunks=_chunks(shape), compression="gzip", compression_opts=1, shuffle=True,
                fillvalue=np.float32(np.nan),
            )  # fmt: skip
            variable.attrs.update(about)
            for place, values in pieces:
                variable[place] = values


def write_zarr(sequences: SequenceSet, path: Path) -> None:
    """Write ``sequences`` to the folder ``path``, replacing what is there.

    Raises:
        MissingExtra: zarr is not installed.
    """
    try:
        import zarr
    except ImportError as error:
        raise MissingExtra.of("zarr", extra="data") from error
    shape = sequences.values.shape
    group = zarr.open_group(path, mode="w", zarr_format=3, attributes=_attributes(sequences))
    for name, values, attrs in _coordinates(sequences):
        group.create_array(name, data=values, attributes=attrs, dimension_names=(name,))
    for name, about, pieces in _variables(sequences):
        variable = group.create_array(
            name, shape=shape, chunks=_chunks(shape), dtype="float32", fill_value=float("nan"), attributes=about,
            dimension_names=AXES,
        )  # fmt: skip
        for place, values in pieces:
            variable[place] = values


def _chunks(shape: tuple[int, ...]) -> tuple[int, ...]:
    frames = max(1, CELLS_A_CHUNK // (shape[2] * shape[3]))
    return (1, min(frames, shape[1]), *shape[2:])


def _variables(sequences: SequenceSet) -> Iterator[tuple[str, dict[str, Any], Iterator[tuple[Place, Floats]]]]:
    """Name, attributes and values, some frames at a time, of energy and of each channel."""
    yield "energy", _about(sequences), _pieces(sequences, sequences.values)
    units = sequences.meta.provenance.get("channels", {})
    for name, values in sorted(sequences.channels.items()):
        if name in ("energy", *AXES):
            raise InvalidField(f"channel {name}: the file's energy and axes have names of that kind; call it otherwise")
        yield name, {"long_name": name, "units": units.get(name, "1")}, _pieces(sequences, values)


def _pieces(sequences: SequenceSet, arrays: Floats) -> Iterator[tuple[Place, Floats]]:
    _, count, _, _ = _chunks(arrays.shape)
    for number, one in enumerate(sequences):
        for first in range(0, len(one), count):
            part = slice(first, min(first + count, len(one)))
            values = arrays[number, part]
            yield (slice(number, number + 1), part), (
                values if one.mask is None else np.where(one.mask[part], values, np.float32(np.nan))
            )[None]


def _about(sequences: SequenceSet) -> dict[str, Any]:
    meta = sequences.meta
    return {
        "long_name": f"energy of {meta.domain}",
        "units": meta.units,
        "nvp_boundary": " ".join(meta.boundary),
        "nvp_conservation": meta.conservation,
        **({"nvp_channels": " ".join(sorted(sequences.channels))} if sequences.channels else {}),
    }


def _attributes(sequences: SequenceSet) -> dict[str, Any]:
    said = json.dumps(dict(sequences.meta.provenance), sort_keys=True)
    return {"Conventions": "CF-1.11", "title": f"Sequences of {sequences.meta.domain}", "nvp_provenance": said}


def _coordinates(sequences: SequenceSet) -> Iterator[tuple[str, npt.NDArray[Any], dict[str, Any]]]:
    """Times are seconds since the first frame's, or since nothing where it has none; distances begin at 0."""
    meta, (height, width) = sequences.meta, sequences.grid
    yield "realization", np.arange(sequences.trajectories), {"standard_name": "realization", "units": "1"}
    since = f" since {np.datetime64(meta.start_ms, 'ms')}" if meta.start_ms else ""
    calendar = {"standard_name": "time", "calendar": "proleptic_gregorian"} if since else {"long_name": "elapsed time"}
    yield "time", meta.dt_s * np.arange(sequences.frames), {"units": f"seconds{since}", "axis": "T", **calendar}
    for name, side in (("y", height), ("x", width)):
        said = {"units": "m", "axis": name.upper(), "long_name": f"distance along {name}"}
        places = meta.dx_m * np.arange(side)
        yield name, places[::-1] if name == "y" and meta.provenance.get(ROWS_DESCEND) else places, said
