"""`nvp predict`: which frames of a file are shown, what is refused before anything is paid, what is written."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import xarray as xr
from PIL import Image

from nvp_agentkit.arrayfile import Coordinate, Meaning
from nvp_agentkit.cli import outputs, payer
from nvp_agentkit.cli.frames import SHOWN, SHOWN_LIGHT, Frames, read_frames
from nvp_agentkit.cli.picture import bent_ticks, draw, scale, typeset
from nvp_agentkit.cli.predict import Told
from nvp_agentkit.client.forecast import Axes, Forecast
from nvp_agentkit.errors import InvalidField, InvalidFile, InvalidInput
from nvp_agentkit.messages import Reading
from nvp_agentkit.settings import Settings
from nvp_agentkit.training.members import LONG_CONTEXT

GREY = (209, 209, 209)
FIELD = np.random.default_rng(0).random((2, 11, 16, 20)).astype(np.float32)
Kept = Callable[..., str]


@pytest.fixture
def kept(tmp_path: Path) -> Kept:
    """Keep an array as a file; what ``--data`` would be told."""

    def keep(values: np.ndarray, name: str = "field.npy") -> str:
        if name.endswith(".npz"):
            np.savez_compressed(tmp_path / name, field=values, grid=np.zeros(3))
        else:
            np.save(tmp_path / name, values)
        return str(tmp_path / name)

    return keep


@pytest.mark.parametrize("name", ["field.npy", "field.npz"])
@pytest.mark.parametrize("order", ["C", "F"])
def test_the_last_frames_of_a_trajectory_are_shown(kept: Kept, name: str, order: Any) -> None:
    asked = kept(np.asarray(FIELD, order=order), name)
    for trajectory in (0, 1):
        found = read_frames(asked, trajectory=trajectory)
        np.testing.assert_array_equal(found.shown, FIELD[trajectory, 3:])
        assert (found.target, found.truth, found.shown.dtype) == (11, None, np.float32)
        assert found.valid.all()


@pytest.mark.parametrize(
    ("frame", "first", "target"), [(10, 2, 10), (-1, 2, 10), (8, 0, 8), (2, 0, 2), (1, 0, 1), (-10, 0, 1)]
)
def test_a_frame_of_the_file_is_told_from_those_before_it(kept: Kept, frame: int, first: int, target: int) -> None:
    found = read_frames(kept(FIELD[1]), frame=frame)
    np.testing.assert_array_equal(found.shown, FIELD[1, first:target])
    np.testing.assert_array_equal(found.truth, FIELD[1, target])
    np.testing.assert_array_equal(found.last, FIELD[1, target - 1])
    assert found.target == target


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ({"frame": 0}, "frame 0: .* has frames 0 to 10, and one must be known before; give 1 to 10"),
        ({"frame": 11}, "frame 11: "),
        ({"frame": -11}, "frame -11: "),
        ({"trajectory": 2}, "trajectory 2: .* has 2, counted from 0"),
        ({"trajectory": -1}, "trajectory -1: "),
    ],
)
def test_a_frame_that_there_is_not_is_refused_naming_those_there_are(kept: Kept, words: Any, said: str) -> None:
    with pytest.raises(InvalidInput, match=said):
        read_frames(kept(FIELD), **words)


def test_an_array_of_an_archive_is_named_after_a_colon(kept: Kept) -> None:
    asked = kept(FIELD, "two.npz")
    assert read_frames(f"{asked}:field").source == "two.npz:field"
    with pytest.raises(InvalidFile, match="no array 'rain'"):
        read_frames(f"{asked}:rain")


def test_cells_without_a_value_are_refused_or_filled_and_left_out(kept: Kept) -> None:
    holed = FIELD[0].copy()
    holed[1] = np.nan  # is not shown
    holed[9, :2] = holed[10, 5, 5] = np.nan
    asked = kept(holed)
    with pytest.raises(InvalidField, match=r"40 of 2,560 cells in frames 2 to 9 are NaN.*--fill 0.*nvp demo --data"):
        read_frames(asked, frame=10)
    found = read_frames(asked, frame=10, fill=-1.5)
    assert (found.shown[7, :2] == -1.5).all()
    assert np.isfinite(found.shown).all()
    assert (~found.valid).sum() == 41  # the one that came without a value cannot be compared


def test_of_larger_fields_three_frames_are_shown(kept: Kept) -> None:
    assert len(read_frames(kept(np.zeros((9, 257, 256), np.float32))).shown) == SHOWN
    assert len(read_frames(kept(np.zeros((9, 256, 256), np.float32))).shown) == SHOWN_LIGHT
    assert SHOWN_LIGHT == LONG_CONTEXT  # which no command may import


def test_frames_before_a_hole_that_three_do_not_need_are_left_out(kept: Kept) -> None:
    holed = FIELD[0].copy()
    holed[5, 3, 3] = holed[4] = np.nan
    found = read_frames(kept(holed))
    np.testing.assert_array_equal(found.shown, holed[6:])
    assert found.valid.all()
    with pytest.raises(InvalidField, match="1 of 960 cells in frames 5 to 7 are NaN"):
        read_frames(kept(holed), frame=8)


def test_frames_with_no_cell_to_compare_are_refused(kept: Kept) -> None:
    gone = FIELD[0].copy()
    gone[4] = np.nan
    with pytest.raises(InvalidField, match="no cell has a value in all of frames 0 to 4"):
        read_frames(kept(gone), frame=4, fill=0)


@pytest.fixture
def forecast() -> Forecast:
    return Forecast(
        request_id="r-1",
        domain="ocean_energy",
        field_digest=f"sha256:{'0' * 64}",
        mean=FIELD[0, 4] + np.float32(0.1),
        log_var=np.linspace(-4, -2, 320, dtype=np.float32).reshape(16, 20),
        units="m2 s-2",
        axes=Axes(),
        energy=Reading(mj=1234, lo_mj=500, hi_mj=3000, method="modelled", sensor="cpu-time"),
        models={"voter-0": f"model:sha256:{'ab' * 32}"},
    )


@pytest.fixture
def frames() -> Frames:
    return Frames("field.npy", 4, FIELD[0, 1:4], np.ones((16, 20), bool), FIELD[0, 4])


def test_each_suffix_is_its_format(forecast: Forecast, frames: Frames, tmp_path: Path) -> None:
    paths = [tmp_path / f"out{suffix}" for suffix in (".nc", ".zarr", ".npz", ".png")]
    outputs.check(paths, "single")
    for path in (*paths, *paths):  # the second time over what is there
        outputs.write(path, forecast, frames)
    with xr.open_dataset(paths[0]) as netcdf, xr.open_zarr(paths[1], consolidated=False) as zarr:
        np.testing.assert_array_equal(netcdf["mean"], forecast.mean)
        np.testing.assert_array_equal(zarr["sigma"], forecast.std)
    with np.load(paths[2], allow_pickle=False) as npz:
        np.testing.assert_array_equal(npz["sigma"], forecast.std)
        assert (str(npz["units"]), str(npz["request_id"])) == ("m2 s-2", "r-1")
    with Image.open(paths[3]) as png:
        assert png.format == "PNG"


LAT = Coordinate("lat", 40 - 0.5 * np.arange(16), {"units": "degrees_north", "standard_name": "latitude"})
LON = Coordinate("lon", 0.5 * np.arange(20), {"units": "degrees_east", "standard_name": "longitude"})
FROM_THE_NORTH = Meaning(units="m2 s-2", rows=LAT, columns=LON, facts={"rows_descend": True})


def test_a_file_s_own_rows_and_columns_and_its_land_are_kept(
    forecast: Forecast, frames: Frames, tmp_path: Path
) -> None:
    sea = np.ones((16, 20), bool)
    sea[:4, 10:] = False
    coast = replace(frames, valid=sea, meaning=FROM_THE_NORTH)
    for suffix in (".nc", ".zarr", ".npz"):
        outputs.write(tmp_path / f"out{suffix}", forecast, coast)
    with (
        xr.open_dataset(tmp_path / "out.nc") as netcdf,
        xr.open_zarr(tmp_path / "out.zarr", consolidated=False) as zarr,
        np.load(tmp_path / "out.npz") as npz,
    ):
        for found in (netcdf, zarr):
            assert found["mean"].dims == ("lat", "lon")
            np.testing.assert_array_equal(found["lat"], LAT.values)
            assert found["lat"].attrs == LAT.attrs
            assert found["mean"].units == "m2 s-2"
        for name, whole in (("mean", forecast.mean), ("sigma", forecast.std)):
            for found in (netcdf, zarr, npz):
                np.testing.assert_array_equal(found[name], np.where(sea, whole, np.nan))
    with xr.open_dataset(tmp_path / "out.nc", decode_cf=False) as raw:
        assert "_FillValue" in raw["mean"].attrs
        assert "_FillValue" not in raw["lat"].attrs


def test_north_is_up_whichever_way_a_file_s_rows_go(forecast: Forecast, frames: Frames, tmp_path: Path) -> None:
    sunny_north = np.repeat([[9], [0]], 8, axis=0) + np.zeros((16, 20), np.float32)
    one = Forecast(**{**vars(forecast), "mean": sunny_north})
    shown = replace(frames, shown=sunny_north[None], truth=None)
    dark = {}
    for name, meaning in (("from the south", Meaning()), ("from the north", FROM_THE_NORTH)):
        outputs.write(tmp_path / f"{name}.png", one, replace(shown, meaning=meaning))
        with Image.open(tmp_path / f"{name}.png") as image:
            first = np.asarray(image.convert("L"))[:, 20 : image.width // 8]
        dark[name] = np.flatnonzero((first < 30).mean(axis=1) > 0.9)
    assert np.median(dark["from the north"]) > np.median(dark["from the south"]) + 50


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("out.csv", "no format of that suffix; there are .nc, .zarr, .npz, .png"),
        ("out", "no format of that suffix"),
        ("nowhere/out.nc", "there is no folder"),
        ("certificate.json", "only a quorum's forecast has a certificate"),
    ],
)
def test_what_cannot_be_written_is_refused_before_it_is_paid_for(nvp, kept: Kept, tmp_path: Path, name, said) -> None:
    ran = nvp("predict", "--data", kept(FIELD), "--domain", "x", "--out", tmp_path / name, "--data-dir", tmp_path)
    assert ran.status == 1
    assert said in ran.err


def test_units_that_the_file_denies_are_refused(nvp, tmp_path: Path) -> None:
    sst = xr.Dataset({"sst": (("time", "y", "x"), FIELD[0], {"units": "K"})})
    sst.to_netcdf(tmp_path / "sst.nc")
    words = ("predict", "--data", tmp_path / "sst.nc", "--domain", "sea", "--data-dir", tmp_path, "--json")
    refused = nvp(*words, "--units", "mm/h").json
    assert refused["error"] == "invalid_file"
    assert "in 'K' by its own word, 'mm/h' was asked" in refused["detail"]
    assert nvp(*words, "--units", "kelvin").json["error"] == "stack_not_running"


def test_a_field_unlike_the_training_data_is_called_unfamiliar(forecast: Forecast, frames: Frames) -> None:
    def said(ood: float | None) -> str:
        told = Told(replace(forecast, ood=ood), frames, [])
        assert told.document()["ood"] == ood
        return "\n".join(told.lines())

    assert "unlike" not in said(None)
    assert "more unlike the training data than 42% of held-out fields\n" in said(0.42)
    assert "than 98% of held-out fields; unfamiliar, so sigma may be too small\n" in said(0.98)


def test_how_far_off_it_was_is_told_against_persistence(forecast: Forecast, frames: Frames) -> None:
    told = Told(forecast, frames, [Path("out.nc")])
    stayed = float(np.sqrt(np.mean((FIELD[0, 3] - FIELD[0, 4]) ** 2)))
    assert told.document()["score"] == pytest.approx({"rmse": 0.1, "persistence": stayed, "skill": 1 - 0.1 / stayed})
    assert json.loads(json.dumps(told.document()))["energy"]["mj"] == 1234
    assert f"missed by 0.1 m2 s-2 (RMSE), persistence by {stayed:.4g}: skill +" in "\n".join(told.lines())
    bare = Told(Forecast(**{**vars(forecast), "units": "1"}), frames, [])
    assert "cells without a unit, 1.23 J" in bare.lines()[0]
    assert "missed by 0.1 (RMSE)" in bare.lines()[1]
    ahead = Told(forecast, Frames("field.npy", 5, FIELD[0, 2:], frames.valid), [])
    assert ahead.document()["score"] is None
    assert "missed" not in "\n".join(ahead.lines())


def test_nobody_pays_who_was_not_meant(nvp, kept: Kept, tmp_path: Path, monkeypatch, valkey: str) -> None:
    words = ("predict", "--data", kept(FIELD), "--domain", "x", "--data-dir", tmp_path)
    assert "stack_not_running" in nvp(*words).err
    monkeypatch.setenv("NVP_REDIS_URL", valkey)
    assert "no account has a login here; `nvp account create NAME`" in nvp(*words).err
    (tmp_path / "accounts").mkdir()
    for name in ("ace-1", "ace-2"):
        (tmp_path / "accounts" / f"{name}.json").write_text("{}")
    assert "say who pays: --account ace-1 or ace-2" in nvp(*words).err
    (tmp_path / "accounts" / "ace-2.json").rename(tmp_path / "accounts" / "demo.json")
    assert payer.only_account(Settings(data_dir=tmp_path, redis_url=valkey)) == "ace-1"  # the demo's own is no choice
    assert nvp(*words, "--account", "nobody-here", "--json").json["error"] == "unknown_account"
    assert "no time; give one as" in nvp(*words, "--account", "nobody-here", "--time", "noon").err


def size(path: Path) -> tuple[int, int]:
    with Image.open(path) as image:
        return image.size


def drawn(tmp_path: Path, forecast: Forecast, shape: tuple[int, int], **otherwise: Any) -> Path:
    """A picture of fields of ``shape``."""
    rng = np.random.default_rng(1)
    last, mean = (rng.random(shape).astype(np.float32) ** 8 for _ in range(2))
    log_var = otherwise.pop("log_var", rng.random(shape).astype(np.float32))
    facts = {**vars(forecast), "mean": mean, "log_var": log_var}
    draw(tmp_path / "out.png", last, Forecast(**facts), title="rain", **otherwise)
    return tmp_path / "out.png"


def test_a_wide_field_is_drawn_in_two_columns_and_a_number_is_no_map(forecast: Forecast, tmp_path: Path) -> None:
    row = size(drawn(tmp_path, forecast, (32, 32)))
    assert row[0] > 2 * row[1]  # four panels in a row: last, forecast, change, sigma
    wide = size(drawn(tmp_path, forecast, (24, 60)))
    assert wide[0] < 2 * wide[1]
    tall = size(drawn(tmp_path, forecast, (200, 40)))
    assert tall[0] > 0.9 * row[0]  # room for the titles
    flat = np.full((32, 32), -1, np.float32)
    assert size(drawn(tmp_path, forecast, (32, 32), log_var=flat))[0] < 0.8 * row[0]


def test_cells_without_a_value_are_grey(forecast: Forecast, tmp_path: Path) -> None:
    valid = np.ones((32, 32), bool)
    assert GREY not in colours(drawn(tmp_path, forecast, (32, 32), valid=valid))
    for half in (slice(0, 16), slice(16, 32)):  # in the end no cell is left to compare
        valid[half] = False
        assert GREY in colours(drawn(tmp_path, forecast, (32, 32), valid=valid))


def colours(path: Path, least: int = 1000) -> set[tuple[int, ...]]:
    """The colours of at least so many pixels."""
    with Image.open(path) as image:
        found = image.convert("RGB").getcolors(1 << 20)
    assert found is not None
    return {colour for number, colour in found if number >= least}


def test_one_wet_cell_in_a_dry_field_is_seen(forecast: Forecast, tmp_path: Path) -> None:
    dry = np.zeros((16, 20), np.float32)
    dry[3, 4] = 5
    draw(tmp_path / "one.png", dry, Forecast(**{**vars(forecast), "mean": dry}), title="rain", truth=dry)
    path = tmp_path / "one.png"
    assert any(min(colour[:2]) > 245 > 200 > colour[2] for colour in colours(path, 500))  # the yellow end of the scale
    assert any(max(colour) < 10 for colour in colours(path, 50_000))  # and its black end for all else


@pytest.mark.parametrize(("least", "most"), [(0.0, 7.93), (293.87, 297.02), (0.0, 3.1e-5), (1e5, 2e6), (0.0, 1.0)])
def test_ticks_of_a_bent_scale_are_round_and_at_even_distances(least: float, most: float) -> None:
    values = np.array([least] * 300 + [most] * 20, np.float32)
    low, high, skewed = scale(values)
    assert skewed
    ticks = bent_ticks(low, high)
    assert (ticks[0], ticks[-1]) == (low, high)
    places = np.sqrt((np.array(ticks) - low) / (high - low))
    np.testing.assert_allclose(places, [0, 0.25, 0.5, 0.75, 1], atol=0.04)
    assert ticks == pytest.approx([float(f"{tick:.5g}") for tick in ticks], rel=1e-9)


@pytest.mark.parametrize("value", [0.0, 7.0])
def test_a_field_that_is_the_same_everywhere_can_be_drawn(forecast: Forecast, tmp_path: Path, value: float) -> None:
    flat = np.full((16, 20), value, np.float32)
    facts = {**vars(forecast), "mean": flat}
    draw(tmp_path / "flat.png", flat, Forecast(**facts), title="$no \\such$ command", truth=flat)
    assert size(tmp_path / "flat.png")[0] > 100


@pytest.mark.parametrize(
    ("units", "printed"),
    [
        ("m2 s-2", "m$^{2}$ s$^{-2}$"),
        ("J/m^3", "J/m$^{3}$"),
        ("mm/h", "mm/h"),
        ("1", "1"),
        ("n0 Te (rho_s/L_n)^2", r"$n_0 T_e\,(\rho_s/L_n)^2$"),
        ("$5", r"\$5"),
    ],
)
def test_units_are_typeset(units: str, printed: str) -> None:
    assert typeset(units) == printed
