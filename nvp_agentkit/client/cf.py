"""A forecast as an xarray dataset that follows the CF conventions, 1.11."""

from __future__ import annotations

from datetime import UTC, datetime
from functools import partial
from typing import TYPE_CHECKING, Any

from nvp_agentkit import __version__
from nvp_agentkit.client.units import TEMPERATURES, readable
from nvp_agentkit.errors import MissingExtra

if TYPE_CHECKING:
    import numpy as np
    import xarray as xr

    from nvp_agentkit.client.forecast import Axes, Forecast

CELLS = ("y", "x")
EPOCH = "seconds since 1970-01-01"
NO_LEAP_SECONDS = {"units_metadata": "leap_seconds: none"}  # neither datetime nor NumPy counts any


def dataset(forecast: Forecast) -> xr.Dataset:
    """``mean``, ``sigma`` and, of a quorum, ``members``; see `Forecast.to_xarray`.

    Raises:
        MissingExtra: xarray is not installed.
    """
    try:
        import xarray as xr
    except ImportError as error:
        raise MissingExtra.of("xarray", extra="data") from error
    import numpy as np

    calibrated = "calibrated on held-out data" if forecast.trained else "one number for all cells, not calibrated"
    told = partial(about, forecast.domain, forecast.units)
    sigma = told("standard deviation") | {"comment": calibrated}
    variables: dict[str, Any] = {
        "mean": (CELLS, forecast.mean, told("mean") | {"ancillary_variables": "sigma"}),
        "sigma": (CELLS, forecast.std, sigma),
    }
    coordinates = _coordinates(forecast.axes, forecast.mean.shape)
    members = {} if forecast.certificate is None else forecast.certificate.members()
    if members:
        numbers = [int(voter.rpartition("-")[2]) for voter in members]
        said = {"standard_name": "realization", "long_name": "number of the voter", "units": "1"}
        coordinates["member"] = ("member", np.array(numbers, np.int32), said)
        variables["members"] = (("member", *CELLS), np.stack(list(members.values())), told("each vote"))
    found = xr.Dataset(variables, coordinates, _attributes(forecast))
    for variable in found.variables.values():
        variable.encoding["_FillValue"] = None  # every value is there, and CF wants none on a coordinate
    for name in {"time", "forecast_reference_time"} & set(coordinates):
        found[name].encoding |= {"units": EPOCH, "dtype": "float64"}
    return found


def about(domain: str, units: str, what: str) -> dict[str, str]:
    """Units and name of a variable. Where CF has no word for the unit, values are pure numbers counted in it."""
    named = f"{what} of the forecast of {domain}"
    told = {"long_name": named, "units": units}
    if not readable(units):
        told = {"long_name": f"{named}, in {units}", "units": "1"}
    if units in TEMPERATURES:
        told["units_metadata"] = f"temperature: {'difference' if what == 'standard deviation' else 'unknown'}"
    return told | {"nvp_units": units}


def _coordinates(axes: Axes, shape: tuple[int, ...]) -> dict[str, Any]:
    import numpy as np

    found: dict[str, Any] = {}
    for name, side, what in zip(CELLS, shape, ("row", "column"), strict=True):
        if axes.dx_m is None:
            found[name] = (name, np.arange(side, dtype=np.int32), {"long_name": what, "units": "1"})
        else:
            far = {"long_name": f"distance from the first {what}", "units": "m"}
            found[name] = (name, axes.dx_m * np.arange(side), far)
    if axes.dt_s is None:
        found["lead_time"] = ((), np.int32(1), {"long_name": "lead time in frames", "units": "1"})
    else:
        said = {"standard_name": "forecast_period", "long_name": "lead time", "units": "s"}
        found["lead_time"] = ((), float(axes.dt_s), said)
    if axes.frame_time is not None:
        last = _utc(axes.frame_time)
        found["forecast_reference_time"] = ((), last, {"standard_name": "forecast_reference_time"} | NO_LEAP_SECONDS)
        if axes.dt_s is not None:
            ahead = np.timedelta64(round(1e6 * axes.dt_s), "us")
            found["time"] = ((), last + ahead, {"standard_name": "time", "axis": "T"} | NO_LEAP_SECONDS)
    return found


def _utc(time: datetime | np.datetime64) -> np.datetime64:
    import numpy as np

    if isinstance(time, datetime):
        time = np.datetime64(time.astimezone(UTC).replace(tzinfo=None))
    exact: np.datetime64 = time.astype("datetime64[us]")
    return exact


def _attributes(forecast: Forecast) -> dict[str, str | float]:
    """Who says so, on what grounds, at what price."""
    energy = forecast.energy
    now = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    facts: dict[str, str | float] = {
        "Conventions": "CF-1.11",
        "title": f"Forecast of {forecast.domain}, one frame ahead",
        "history": f"{now} nvp-agentkit {__version__}: request {forecast.request_id}",
        "source": forecast.source,
        "domain": forecast.domain,
        "request_id": forecast.request_id,
        "field_digest": forecast.field_digest,
        "assurance": forecast.assurance,
        "energy_j": energy.mj / 1000,
        "energy_low_j": energy.lo_mj / 1000,
        "energy_high_j": energy.hi_mj / 1000,
        "energy_method": energy.method,
    }
    if forecast.ood is not None:
        facts["ood"] = forecast.ood
    if forecast.certificate is not None:
        facts |= {
            "agreed": " ".join(forecast.agreed),
            "dissent": " ".join(forecast.dissent),
            "certificate": forecast.certificate.digest,
        }
    return facts
