from __future__ import annotations

import dataclasses
import json
import math
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors.numpy import load, save

from nvp_agentkit.errors import InvalidFile, InvalidInput
from nvp_agentkit.model import (
    Calibration,
    Normalization,
    NVPConfig,
    load_model,
    model_bytes,
    model_id,
    predict_next,
    save_model,
    storage,
)
from nvp_agentkit.model.novelty import DESCRIPTORS, Novelty, novelty_of
from nvp_agentkit.model.state import shapes

from .conftest import SMALL, scrambled

FULL = dataclasses.replace(
    scrambled(SMALL),
    normalization=Normalization(1.5, 0.25, low=-1.0, high=4.0),
    calibration=Calibration(
        1.25, {0.5: 0.6, 0.9: 1.7, 0.95: 2.1}, ((-3.0, 0.5), (0.5, -1.0)), 0.75, {4: Calibration(2.5)}
    ),
    novelty=Novelty.fit(*np.random.default_rng(0).standard_normal((2, 30, DESCRIPTORS))),
    recipe={"seed": 3},
    metrics={"vrmse": 0.1},
)
GOOD = model_bytes(FULL)


def description() -> dict[str, Any]:
    header = int.from_bytes(GOOD[:8], "little")
    return dict(json.loads(json.loads(GOOD[8 : 8 + header])["__metadata__"]["nvp"]))


def rewritten(**changes: object) -> bytes:
    """The model with parts of its description changed."""
    return save(load(GOOD), metadata={"nvp": json.dumps(description() | changes)})


def test_a_stored_model_forecasts_the_same(tmp_path, frames):
    name = save_model(FULL, tmp_path / "model.safetensors")
    again = load_model(tmp_path / "model.safetensors")
    parts = ("config", "normalization", "calibration", "recipe", "metrics")
    assert [getattr(again, part) for part in parts] == [getattr(FULL, part) for part in parts]
    assert name == model_id(GOOD) == model_id(model_bytes(again))
    np.testing.assert_array_equal(predict_next(again, frames), predict_next(FULL, frames))
    np.testing.assert_array_equal(novelty_of(again, frames), novelty_of(FULL, frames))


def test_a_model_from_before_leads_range_and_novelty_were_stored_is_read():
    about = description()
    for later in ("range", "later", "novelty"):
        del about[later]
    old = load_model(save(load(GOOD), metadata={"nvp": json.dumps(about)}))
    assert (old.normalization, old.calibration.later, old.novelty) == (Normalization(1.5, 0.25), {}, None)


def test_a_change_in_one_weight_is_another_id():
    variables = scrambled(SMALL, seed=1).variables
    assert model_id(model_bytes(dataclasses.replace(FULL, variables=variables))) != model_id(GOOD)


def test_saving_leaves_one_file_and_replaces_the_old_one_whole(tmp_path):
    path = tmp_path / "model.safetensors"
    path.write_bytes(b"old")
    save_model(FULL, path)
    assert [file.name for file in tmp_path.iterdir()] == ["model.safetensors"]
    assert path.read_bytes() == GOOD


def test_a_write_that_fails_leaves_the_old_model(tmp_path):
    path = tmp_path / "model.safetensors"
    path.mkdir()  # a rename onto a folder fails as a full disk would, after the temporary file was begun
    with pytest.raises(OSError, match="irectory"):
        save_model(FULL, path)
    assert [file.name for file in tmp_path.iterdir()] == ["model.safetensors"]


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.integers(0, len(GOOD) - 1))
def test_a_truncated_model_is_refused(length):
    with pytest.raises(InvalidFile):
        load_model(GOOD[:length])


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.binary(max_size=200))
def test_foreign_bytes_are_refused(data):
    with pytest.raises(InvalidFile):
        load_model(data)


@pytest.mark.parametrize(
    "changes",
    [
        {"format": "nvp-model-99"},
        {"config": NVPConfig(latent_dim=16, encoder_features=(8, 8)).to_json()},
        {"config": '{"encoder_features":[1000,1000,1000,1000,1000,1000]}'},
        {"config": 7},
        {"normalization": [0.0, 0.0]},
        {"normalization": [0.0]},
        {"normalization": [0.0, True]},
        {"calibration": [1.0, [1.0]]},
        {"calibration": None},
        {"calibration": [1.0, [1.0, 1.0, 1.0], [[0.0, 1.0], [0.0, 2.0]]]},
        {"calibration": [1.0, [1.0, 1.0, 1.0], [[0.0, True]]]},
        {"calibration": [1.0, [1.0, 1.0, 1.0], [[0.0]]]},
        {"calibration": [1.0, [1.0, 1.0, 1.0], [], 1.5]},
        {"range": [0.0, True]},
        {"range": 3},
        {"later": [[1, 1.0, [1.0, 1.0, 1.0]]]},
        {"later": [[2, 0.0, [1.0, 1.0, 1.0]]]},
        {"later": [[2, 1.0]]},
        {"novelty": [[0.0], [[1.0]], [1.0]]},
        {"novelty": "none"},
        {"novelty": [[0.0], [["x"]], [1.0]]},
        {"metrics": [1]},
        {"recipe": 1},
    ],
)
def test_a_description_that_does_not_fit_is_refused(changes):
    with pytest.raises(InvalidFile):
        load_model(rewritten(**changes))


def test_weights_that_are_not_finite_are_refused():
    tensors = {name: np.full_like(array, np.nan) for name, array in load(GOOD).items()}
    header = int.from_bytes(GOOD[:8], "little")
    metadata = json.loads(GOOD[8 : 8 + header])["__metadata__"]
    with pytest.raises(InvalidFile, match="finite"):
        load_model(save(tensors, metadata=metadata))


def test_a_header_that_claims_more_than_the_file_is_refused():
    with pytest.raises(InvalidFile):
        load_model((2**62).to_bytes(8, "little") + GOOD[8:])


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(InvalidFile, match=r"champion\.safetensors"):
        load_model(tmp_path / "champion.safetensors")


def test_what_could_not_be_loaded_again_is_not_saved(bundle, tmp_path, monkeypatch):
    monkeypatch.setattr(storage, "LARGEST_FILE", storage.LARGEST_HEADER + 1000)
    with pytest.raises(InvalidInput, match=r"a model of 4 MiB; a model file may have 4.*checkpoint"):
        save_model(bundle, tmp_path / "model.safetensors")
    assert not list(tmp_path.iterdir())


def test_the_founding_documents_own_network_can_be_saved():
    size = 4 * sum(math.prod(shape) for shape in shapes(NVPConfig.documented()).values())
    assert 2**31 < size + storage.LARGEST_HEADER + 8 <= storage.LARGEST_FILE
