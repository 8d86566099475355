"""A forecast as a dataset: names, units and times as CF-1.11 wants them, and what it came from and cost."""

from __future__ import annotations

import sys
from collections.abc import Callable
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import xarray as xr

from nvp_agentkit.client.forecast import NORMAL_WIDTHS, Axes, Forecast
from nvp_agentkit.client.units import readable
from nvp_agentkit.errors import InvalidInput, MissingExtra
from nvp_agentkit.messages import Reading
from nvp_agentkit.model.bundle import NORMAL_QUANTILE

READING = Reading(mj=1234, lo_mj=500, hi_mj=3000, method="modelled", sensor="cpu-time")
PLASMA = "n0 Te (rho_s/L_n)^2"
Made = Callable[..., Forecast]


@pytest.fixture
def made() -> Made:
    """A forecast of 16 x 20 cells; give what shall be otherwise."""
    rng = np.random.default_rng(0)

    def forecast(**otherwise: Any) -> Forecast:
        facts = {
            "request_id": "r-1",
            "domain": "weather",
            "field_digest": f"sha256:{'0' * 64}",
            "mean": rng.random((16, 20), np.float32),
            "log_var": np.full((16, 20), -2, np.float32),
            "units": "mm/h",
            "axes": Axes(),
            "energy": READING,
            "models": {"voter-0": "model:sha256:abc"},
        }
        return Forecast(**{**facts, **otherwise})

    return forecast


def test_an_interval_is_as_wide_as_it_was_on_held_out_data_and_else_a_normal_one(made: Made) -> None:
    forecast = made(widths={0.5: 0.5, 0.9: 2.0})
    low, high = forecast.interval()
    np.testing.assert_allclose(high - low, 2 * 2.0 * forecast.std, rtol=1e-5)
    np.testing.assert_allclose((high + low) / 2, forecast.mean, rtol=1e-5)
    with pytest.raises(InvalidInput, match=r"level 0.95: give one of 0.5, 0.9"):
        forecast.interval(0.95)
    low, high = made().interval(0.95)
    np.testing.assert_allclose(high - low, 2 * 1.959964 * forecast.std, rtol=1e-5)
    assert NORMAL_WIDTHS == NORMAL_QUANTILE  # which no client may import


def test_mean_and_sigma_carry_their_unit_and_each_other(made: Made) -> None:
    forecast = made()
    found = forecast.to_xarray()
    np.testing.assert_array_equal(found["mean"], forecast.mean)
    np.testing.assert_allclose(found["sigma"], np.exp(-1), rtol=1e-6)
    assert found["mean"].units == found["sigma"].units == "mm/h"
    assert found["mean"].ancillary_variables == "sigma"
    assert "calibrated on held-out data" in found["sigma"].comment
    assert found["mean"].dims == ("y", "x")


def test_who_said_it_on_what_grounds_and_at_what_price_is_in_the_attributes(made: Made) -> None:
    attributes = made().to_xarray().attrs
    assert attributes["Conventions"] == "CF-1.11"
    assert attributes["source"] == "voter-0 model:sha256:abc"
    assert [attributes[f"energy_{part}"] for part in ("low_j", "j", "high_j", "method")] == [0.5, 1.234, 3, "modelled"]
    assert (attributes["request_id"], attributes["assurance"]) == ("r-1", "single")
    assert attributes["field_digest"].startswith("sha256:")
    assert "request r-1" in attributes["history"]
    assert "certificate" not in attributes


def test_a_unit_that_cf_has_no_word_for_is_a_pure_number_that_says_what_it_counts(made: Made) -> None:
    mean = made(units=PLASMA).to_xarray()["mean"]
    assert (mean.units, mean.nvp_units) == ("1", PLASMA)
    assert mean.long_name.endswith(f"in {PLASMA}")


def test_a_temperature_says_that_its_sigma_is_a_difference(made: Made) -> None:
    found = made(units="degC").to_xarray()
    assert found["sigma"].units_metadata == "temperature: difference"
    assert "units_metadata" not in made().to_xarray()["sigma"].attrs


def test_what_was_not_said_of_time_and_space_is_counted_in_frames_and_cells(made: Made) -> None:
    found = made().to_xarray()
    assert (int(found["lead_time"]), found["lead_time"].units) == (1, "1")
    assert list(found["x"].values) == list(range(20))
    assert not {"time", "forecast_reference_time"} & set(found.coords)


@pytest.mark.parametrize(
    "time",
    [
        datetime(2019, 6, 10, 12, tzinfo=UTC),
        datetime(2019, 6, 10, 14, tzinfo=timezone(timedelta(hours=2))),
        np.datetime64("2019-06-10T12:00"),
    ],
)
def test_time_and_space_that_were_said_become_coordinates(made: Made, time: Any) -> None:
    found = made(axes=Axes(time, dt_s=120.5, dx_m=2000.0)).to_xarray()
    assert found["forecast_reference_time"] == np.datetime64("2019-06-10T12:00")
    assert found["time"] == np.datetime64("2019-06-10T12:02:00.5")
    assert (float(found["lead_time"]), found["lead_time"].standard_name) == (120.5, "forecast_period")
    assert (float(found["y"][-1]), found["y"].units) == (30_000.0, "m")


def test_a_time_alone_is_that_of_the_last_frame_and_the_forecasts_is_not_guessed(made: Made) -> None:
    found = made(axes=Axes(np.datetime64("2019-06-10"))).to_xarray()
    assert "forecast_reference_time" in found.coords
    assert "time" not in found.coords


@pytest.mark.parametrize(
    ("said", "words"),
    [
        ({"frame_time": datetime(2019, 6, 10, tzinfo=UTC).replace(tzinfo=None)}, "has no time zone"),
        ({"dt_s": 0.0}, "dt_s=0.0: give a finite number above 0"),
        ({"dt_s": float("inf")}, "dt_s=inf"),
        ({"dx_m": float("nan")}, "dx_m=nan"),
    ],
)
def test_a_time_or_distance_that_is_none_is_refused(said: dict[str, Any], words: str) -> None:
    with pytest.raises(InvalidInput, match=words):
        Axes(**said)


@pytest.mark.parametrize("engine", ["h5netcdf", "scipy"])
def test_a_netcdf_file_reads_back_as_it_was(made: Made, tmp_path: Path, engine: Any) -> None:
    found = made(axes=Axes(np.datetime64("2019-06-10T12:00"), dt_s=120.5, dx_m=2000.0)).to_xarray()
    path = tmp_path / "forecast.nc"
    found.to_netcdf(path, engine=engine)
    with xr.open_dataset(path, engine=engine) as read:
        xr.testing.assert_identical(read.load(), found)
    with xr.open_dataset(path, engine=engine, decode_cf=False) as raw:
        assert raw["time"].units == raw["forecast_reference_time"].units == "seconds since 1970-01-01"
        assert not any("_FillValue" in variable.attrs for variable in raw.variables.values())


def test_a_zarr_store_reads_back_as_it_was(made: Made, tmp_path: Path) -> None:
    found = made().to_xarray()
    found.to_zarr(tmp_path / "forecast.zarr", consolidated=False)
    with xr.open_zarr(tmp_path / "forecast.zarr", consolidated=False) as read:
        xr.testing.assert_identical(read.load(), found)


def test_without_xarray_the_extra_is_named(made: Made, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "xarray", None)
    with pytest.raises(MissingExtra, match=r"nvp-agentkit\[data\]"):
        made().to_xarray()


@pytest.mark.parametrize("units", ["1", "mm/h", "J m-3", "kg*m^2", "1e-3 kg", "W.m-2", "degC", "%", "m s"])
def test_units_that_udunits_reads(units: str) -> None:
    assert readable(units)


@pytest.mark.parametrize("units", ["", PLASMA, "mm_h", "cells", "m/", "/m", "m^", "m h-", "furlong", "m\n"])
def test_units_that_udunits_does_not_read(units: str) -> None:
    assert not readable(units)
