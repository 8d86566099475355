"""`nvp evaluate`: models beside everything that should be beaten, in words, as JSON and as pictures."""

from __future__ import annotations

import json
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from nvp_agentkit.fields.baselines import NAMES
from nvp_agentkit.model import ModelBundle, Normalization, NVPConfig, save_model
from nvp_agentkit.model.state import initial_variables
from nvp_agentkit.workers.local import evaluation as local_evaluation
from nvp_agentkit.workers.local.evaluation import SOLVER, Options

NETWORK = NVPConfig(latent_dim=8, encoder_features=(8, 8), context_frames=1, boundary=("reflecting", "reflecting"))
ASKED = Options(models=[], called=["one", "other"], domain=None, variant=None, data=None, array=None, leads=[1, 2],
                trajectories=4, frames=6, size=32, seed=7, pictures=None, as_json=True)  # fmt: skip


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """Two untrained networks, which say that nothing changes."""
    folder = tmp_path_factory.mktemp("models")
    return [untrained(NETWORK, seed, folder / str(seed)) for seed in (0, 1)]


def untrained(network: NVPConfig, seed: int, file: Path) -> str:
    variables = initial_variables(network, seed)
    save_model(ModelBundle(network, variables, Normalization(1, 2), domain="heat_diffusion"), file)
    return str(file)


def evaluated(models: list[str], capsys: pytest.CaptureFixture[str], **changes: Any) -> tuple[dict[str, Any], str]:
    options = asdict(ASKED) | {"models": models} | changes
    assert local_evaluation.main([json.dumps(options)]) == 0
    said = capsys.readouterr()
    return json.loads(said.out), said.err


def test_models_stand_beside_every_trivial_forecaster_and_the_coarse_solver(models, capsys, tmp_path) -> None:
    found, said = evaluated(models, capsys, pictures=str(tmp_path / "pics"))
    first, second = (model["name"] for model in found["models"])
    by_name = {(one["name"], one["lead"]): one for one in found["scores"]}
    assert {name for name, _ in by_name} == {first, second, *NAMES, SOLVER}
    assert {lead for _, lead in by_name} == {1, 2} == set(found["leads"])
    for lead in (1, 2):  # an untrained network is persistence, and the solver is given the state
        assert by_name[first, lead]["vrmse"] == pytest.approx(by_name["persistence", lead]["vrmse"], rel=1e-4)
        assert by_name[SOLVER, lead]["vrmse"] < by_name["persistence", lead]["vrmse"]
    assert by_name[first, 1]["vrmse_low"] < by_name[first, 1]["vrmse"] < by_name[first, 1]["vrmse_high"]
    assert by_name[SOLVER, 1]["coverage"] == {}
    assert (found["data"]["source"], found["data"]["taught_trajectories"], found["data"]["trajectories"]) == (
        "simulated", 1, 3)  # fmt: skip
    assert "making 4 sequences of 6 frames (heat_diffusion)" in said
    assert "given the whole hidden state" in said
    assert all(len(line) < 300 for line in said.splitlines())
    for picture in found["pictures"]:
        with Image.open(picture) as opened:
            assert min(opened.size) > 400


def test_of_a_file_the_part_is_judged_that_training_leaves_out_and_without_a_solver(models, capsys, tmp_path) -> None:
    knowing = untrained(replace(NETWORK, masked=True), 2, tmp_path / "knowing")
    holed = np.random.default_rng(0).random((3, 6, 16, 16), np.float32)
    holed[:, :, 2, 3] = np.nan
    np.savez(tmp_path / "sea.npz", sst=holed)
    sea = {"data": str(tmp_path / "sea.npz"), "array": "sst", "called": ["one"]}
    found, _ = evaluated([knowing], capsys, **sea)
    assert found["data"] | {"held_out_by": "by trajectory", "trajectories": 1, "source": "sea.npz:sst"} == found["data"]
    assert SOLVER not in {one["name"] for one in found["scores"]}
    assert found["scores"][0]["bands"] == {}  # cells without a value have no spectrum
    assert local_evaluation.main([json.dumps(asdict(ASKED) | {"models": models[:1]} | sea)]) == 1
    assert "cells have no value, and this network learnt from fields that have all" in capsys.readouterr().out


def test_lead_times_that_the_frames_have_no_room_for_are_named(models, capsys) -> None:
    found, said = evaluated(models, capsys, leads=[1, 6, 8])
    assert found["leads"] == [1]
    assert "Not judged, 6, 8 steps ahead: 2 frames are shown first, so that takes 8 or more; 6 are there" in said


def test_lead_times_that_are_none_and_models_that_are_none_are_refused(nvp, models, tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert "give whole numbers from 1 to 1000" in nvp("evaluate", models[0], "--leads", "1,zero").err
    assert nvp("evaluate", "nowhere.safetensors").err.startswith("stack_not_running: nowhere.safetensors is no file")
