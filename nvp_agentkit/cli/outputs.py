"""A forecast as a file, in the format that its suffix names."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from nvp_agentkit.cli import extras
from nvp_agentkit.errors import InvalidInput

if TYPE_CHECKING:
    import xarray as xr

    from nvp_agentkit.cli.frames import Frames
    from nvp_agentkit.client import Forecast

Write = Callable[[Path, "Forecast", "Frames"], None]
NEEDS = {".nc": "data", ".zarr": "data", ".png": "plot"}  # suffix -> extra


def check(paths: list[Path], assurance: str) -> None:
    """Refuse what cannot be written, before a forecast is paid for.

    Raises:
        InvalidInput: an unknown suffix, no such folder, or a certificate of a forecast that will have none.
        MissingExtra: a package that writes it is not installed.
    """
    for path in paths:
        if path.suffix not in WRITERS:
            raise InvalidInput(f"{path}: no format of that suffix; there are {', '.join(WRITERS)}")
        if not path.parent.is_dir():
            raise InvalidInput(f"{path}: there is no folder {path.parent}; make it first")
        if path.suffix == ".json" and assurance != "quorum":
            raise InvalidInput(f"{path}: only a quorum's forecast has a certificate; add --assurance quorum")
        if path.suffix in NEEDS:
            extras.need(NEEDS[path.suffix])


def write(path: Path, forecast: Forecast, frames: Frames) -> None:
    """Write ``forecast`` to ``path``; what is there already is replaced."""
    WRITERS[path.suffix](path, forecast, frames)


def _dataset(forecast: Forecast, frames: Frames) -> xr.Dataset:
    """On the file's own rows and columns, missing where the file had no value."""
    found = forecast.to_xarray()
    if not frames.valid.all():
        found = found.where(found["mean"].copy(data=frames.valid))
    for name, where in (("y", frames.meaning.rows), ("x", frames.meaning.columns)):
        if where is not None and (where.name == name or where.name not in found.variables):
            values = (where.name, where.values, where.attrs)
            found = found.rename({name: where.name}).assign_coords({where.name: values})
            found[where.name].encoding["_FillValue"] = None
    return found


def _netcdf(path: Path, forecast: Forecast, frames: Frames) -> None:
    _dataset(forecast, frames).to_netcdf(path)


def _zarr(path: Path, forecast: Forecast, frames: Frames) -> None:
    _dataset(forecast, frames).to_zarr(path, mode="w", consolidated=False)


def _npz(path: Path, forecast: Forecast, frames: Frames) -> None:
    import numpy as np

    said = {"units": forecast.units, "request_id": forecast.request_id, "source": forecast.source}
    texts = {name: np.array(text) for name, text in said.items()}
    mean, sigma = (np.where(frames.valid, one, np.float32(np.nan)) for one in (forecast.mean, forecast.std))
    np.savez_compressed(path, allow_pickle=False, mean=mean, sigma=sigma, **texts)


def _png(path: Path, forecast: Forecast, frames: Frames) -> None:
    from nvp_agentkit.cli.picture import draw, origin_of

    title = f"{forecast.domain.replace('_', ' ')}: frame {frames.target} of {frames.source}"
    origin = origin_of(frames.meaning.facts)
    draw(path, frames.last, forecast, title=title, truth=frames.truth, valid=frames.valid, origin=origin)


def _certificate(path: Path, forecast: Forecast, _: Frames) -> None:
    if forecast.certificate is not None:
        forecast.certificate.save(path)


WRITERS: dict[str, Write] = {".nc": _netcdf, ".zarr": _zarr, ".npz": _npz, ".png": _png, ".json": _certificate}
