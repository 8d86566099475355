"""A model as a folder: its card runs where this package cannot be imported, and it comes back as what it was."""

from __future__ import annotations

import dataclasses
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import jax
import numpy as np
import pytest
import yaml

from nvp_agentkit.errors import DigestMismatch, InvalidFile, InvalidInput
from nvp_agentkit.model import Calibration, Normalization, load_model, model_bytes, model_id, predict_next
from nvp_agentkit.model.bundle import WAVENUMBERS, Coherence
from nvp_agentkit.model.export import export_model, import_model, program
from tests.conftest import COMPILED, QUICKLY_COMPILED

from .conftest import SMALL, scrambled

MADE = dataclasses.replace(
    scrambled(dataclasses.replace(SMALL, masked=True, conservation="closed")),
    normalization=Normalization(1.5, 0.25),
    calibration=Calibration(1.25, {0.5: 0.6, 0.9: 1.7, 0.95: 2.1}, ((-4.0, 0.5), (-1.0, -1.0))),
    metrics={"vrmse": 0.125},
    recipe={"seed": 3},
)
FLAT = Coherence(1.0, 1.0, (1.0,) * len(WAVENUMBERS))
# Of a process in which this package cannot be imported: the snippet as it stands, then other frames.
OUTSIDE = """
import sys
sys.modules["nvp_agentkit"] = None
exec(open("snippet.py").read())
np.savez("told.npz", *forecast(np.load("frames.npy")))
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("hub") / "model"
    assert export_model(MADE, made, [(16, 24)]) == model_id(model_bytes(MADE))
    return made


def snippet(folder: Path) -> str:
    (code,) = re.findall(r"```python\n(.*?)```", (folder / "README.md").read_text(), re.DOTALL)
    return str(code)


def test_the_card_s_python_forecasts_as_we_do_where_this_package_cannot_be_imported(folder, frames):
    shown = np.where(np.random.default_rng(2).random(frames.shape) < 0.1, np.float32(np.nan), frames)
    (folder / "snippet.py").write_text(snippet(folder))
    np.save(folder / "frames.npy", shown)
    quickly = os.environ | {"XLA_FLAGS": QUICKLY_COMPILED, "JAX_COMPILATION_CACHE_DIR": str(COMPILED)}
    done = subprocess.run(
        [sys.executable, "-c", OUTSIDE], cwd=folder, env=quickly, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert "+-" in done.stdout
    assert len(snippet(folder).splitlines()) == 10
    with np.load(folder / "told.npz") as told:
        for theirs, ours in zip((told["arr_0"], told["arr_1"]), predict_next(MADE, shown), strict=True):
            np.testing.assert_allclose(theirs, ours, rtol=1e-4, atol=1e-4)


def test_a_field_that_may_be_negative_is_not_cut_off(frames):
    signed = dataclasses.replace(scrambled(dataclasses.replace(SMALL, positive=False)), normalization=Normalization(-1))
    mean, log_var = jax.jit(program(signed))(frames - 2)
    assert float(mean.min()) < 0
    np.testing.assert_allclose(mean, predict_next(signed, frames - 2)[0], rtol=1e-4, atol=1e-4)
    assert log_var.shape == (3, 16, 24)


def test_an_exported_model_comes_back_under_its_own_id(folder):
    again = import_model(folder)
    assert model_id(model_bytes(again)) == model_id(model_bytes(MADE))
    assert load_model(folder / "model.safetensors").calibration == MADE.calibration
    about = json.loads((folder / "config.json").read_text())
    assert about["programs"] == {"16x24": "forecast-16x24.jaxexport"}
    assert about["config"]["latent_dim"] == SMALL.latent_dim


def test_the_card_is_markdown_with_yaml_in_front(folder):
    _, front, text = (folder / "README.md").read_text().split("---\n", 2)
    said = yaml.safe_load(front)
    assert said["library_name"] == "jax"
    assert said["model-index"][0]["results"][0]["metrics"] == [{"type": "vrmse", "value": 0.125}]
    assert model_id(model_bytes(MADE)) in text
    assert '"seed": 3' in text


def test_the_page_s_python_runs(bundle, frames, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    page = Path(__file__).parents[2] / "docs" / "models.md"
    ahead, samples, exported = re.findall(r"```python\n(.*?)```", page.read_text(), re.DOTALL)
    names = {"bundle": dataclasses.replace(bundle, coherence=FLAT), "frames": frames}
    exec(ahead, names)
    assert names["means"].shape == (3, 20, 16, 24)
    assert (names["low"] <= names["high"]).all()
    exec(samples, names)
    assert names["fields"].shape == (20, 3, 16, 24)
    exec(exported, names)
    assert names["bundle"] is not bundle
    assert (tmp_path / "exported" / "forecast-64x64.jaxexport").exists()


def test_weights_that_are_not_the_description_s_are_refused(folder, tmp_path):
    (tmp_path / "config.json").write_bytes((folder / "config.json").read_bytes())
    with pytest.raises(InvalidFile, match=r"model\.safetensors"):
        import_model(tmp_path)
    (tmp_path / "model.safetensors").write_bytes(model_bytes(scrambled(SMALL, seed=1)))
    with pytest.raises(DigestMismatch, match="export it anew"):
        import_model(tmp_path)
    (tmp_path / "config.json").write_text("[]")
    with pytest.raises(InvalidFile, match="does not say of which model"):
        import_model(tmp_path)


def test_a_folder_in_use_and_sizes_that_are_none_are_refused_before_anything_is_written(folder, tmp_path):
    with pytest.raises(InvalidInput, match="not empty"):
        export_model(MADE, folder)
    with pytest.raises(InvalidInput, match="16 to 4096"):
        export_model(MADE, tmp_path / "new", [(64, 8)])
    assert not list(tmp_path.iterdir())
