"""The model that ships with the package: a forecast by a network that nobody trained on the data."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from nvp_agentkit.domains import DOMAINS
from nvp_agentkit.errors import InvalidField, InvalidInput
from nvp_agentkit.fields.metrics import vrmse
from nvp_agentkit.fields.sequence import FieldMeta, Floats
from nvp_agentkit.model import NVPConfig, intervals, model_bytes, predict_next, starter
from nvp_agentkit.model.starter import FILE, StarterForecaster, starter_weights
from nvp_agentkit.model.state import shapes

CARD = Path(__file__).parents[2] / "docs" / "starter.md"
DRIFT = FieldMeta("drift", boundary=("periodic", "periodic"))


@pytest.fixture(scope="module", params=["turbulence_2d", "plasma_physics"])
def simulated(request: pytest.FixtureRequest) -> tuple[Floats, FieldMeta]:
    """Four frames of a trajectory that is none of those trained on."""
    data = DOMAINS[request.param].simulate(1, 4, 32, seed=12)
    return data.values[0], replace(data.meta, conservation="open")


def test_the_file_is_small_and_holds_the_default_network() -> None:
    assert FILE.stat().st_size < 10e6
    assert shapes(starter_weights().config) == shapes(NVPConfig())


def test_the_file_is_what_this_version_writes_of_its_weights_so_they_have_one_id() -> None:
    assert model_bytes(starter_weights()) == FILE.read_bytes()


def test_it_forecasts_better_than_persistence_untrained(simulated) -> None:
    values, meta = simulated
    mean, _ = predict_next(starter(values[:3], meta), values[None, :3])
    assert vrmse(mean, values[3:]) < 0.7 * vrmse(values[2:3], values[3:])


def test_the_unit_and_the_zero_of_the_field_are_its_own(simulated) -> None:
    values, meta = simulated
    meta = replace(meta, positive=False)
    mean, log_var = predict_next(starter(values[:3], meta), values[None, :3])
    other = 100 * values - 7
    moved, doubt = predict_next(starter(other[:3], meta), other[None, :3])
    np.testing.assert_allclose((moved + 7) / 100, mean, atol=1e-3 * values.std())
    np.testing.assert_allclose(doubt - 2 * np.log(100), log_var, atol=0.01)


def test_with_three_frames_its_doubt_is_what_it_would_have_missed(simulated) -> None:
    values, meta = simulated
    bundle = starter(values[:3], meta)
    mean, log_var = predict_next(bundle, values[None, :2])
    low, high = intervals(mean, log_var, bundle.calibration)[0.9]
    assert np.mean((low <= values[2]) & (values[2] <= high)) == pytest.approx(0.9, abs=0.01)


def test_as_a_forecaster_it_is_made_for_each_window_by_itself(simulated) -> None:
    values, meta = simulated
    windows = np.stack([values[:3], 5 * values[1:] + 1])
    told = StarterForecaster(meta).predict_next(windows)
    for place, window in enumerate(windows):
        for part, alone in zip(told, predict_next(starter(window, meta), window[None]), strict=True):
            np.testing.assert_array_equal(part[place], alone[0])
    holed = np.ones(windows.shape, bool)
    holed[1, 2, 3, 4] = False
    with pytest.raises(InvalidInput, match="1 of 3072 cells have no value"):
        StarterForecaster(meta).predict_next(windows, holed)


def test_what_is_no_weight_comes_from_the_data() -> None:
    values = np.ones((2, 16, 16), np.float32)
    meta = FieldMeta("plate", boundary=("reflecting", "open"), conservation="closed", positive=True)
    config = starter(values, meta).config
    assert (config.boundary, config.conservation, config.positive) == (meta.boundary, "closed", True)


def test_the_python_of_its_card_runs(simulated) -> None:
    (code,) = re.findall(r"```python\n(.*?)```", CARD.read_text(), re.DOTALL)
    names = {"frames": simulated[0]}
    exec(code, names)
    assert names["mean"].shape == names["log_var"].shape == (1, 32, 32)


def test_cells_without_a_value_are_refused_by_name() -> None:
    frames = np.ones((2, 16, 16), np.float32)
    frames[0, 0, :3] = np.nan
    with pytest.raises(InvalidInput, match=r"3 of 512 cells have no value.*'trivial'.*train"):
        starter(frames, DRIFT)


def test_what_is_no_sequence_of_maps_is_refused() -> None:
    with pytest.raises(InvalidField, match=r"\(16, 16\); give \(K, H, W\)"):
        starter(np.ones((16, 16), np.float32), DRIFT)
