"""`nvp model export`: from a file, or from what the running stack has trained, to a folder."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from nvp_agentkit.artifacts import Artifacts
from nvp_agentkit.cli import model
from nvp_agentkit.errors import InvalidInput, UnknownModel
from nvp_agentkit.lineage import edges, nodes
from nvp_agentkit.lineage.graph import Graph
from nvp_agentkit.lineage.models import find_model
from nvp_agentkit.model import ModelBundle, NVPConfig, save_model
from nvp_agentkit.model.state import initial_variables
from nvp_agentkit.settings import Settings

TINY = NVPConfig(latent_dim=8, encoder_features=(8, 8), context_frames=1)


def test_a_file_becomes_a_folder_and_says_what_is_in_it(tmp_path: Path) -> None:
    name = save_model(ModelBundle(TINY, initial_variables(TINY, 0), domain="rain"), tmp_path / "model.safetensors")
    words = ["model", "export", "model.safetensors", "out", "--size", "16x32", "--json"]
    program = [sys.executable, "-m", "nvp_agentkit.cli", *words]
    done = subprocess.run(program, cwd=tmp_path, capture_output=True, text=True, check=True)
    said = json.loads(done.stdout)
    assert said["model_id"] == name
    assert set(said["files"]) == {"README.md", "config.json", "model.safetensors", "forecast-16x32.jaxexport"}
    assert "Next-frame forecaster of rain" in (tmp_path / "out" / "README.md").read_text()
    again = subprocess.run(program, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert again.returncode == 1
    assert json.loads(again.stdout)["error"] == "invalid_input"


def test_what_is_no_file_is_asked_of_the_running_stack(nvp, tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    done = nvp("model", "export", "rain", "out")
    assert done.status == 1
    assert done.err.startswith("stack_not_running: rain is no file here, and no stack runs that could know it")


async def test_a_model_is_found_by_its_id_its_beginning_its_name_and_its_domain(settings: Settings, graph) -> None:
    artifacts = Artifacts.from_settings(settings)
    made, weights = edges.Facts(), {}
    for voter in ("voter-0", "voter-1"):
        weights[voter] = await artifacts.put(voter.encode())
        made.add(nodes.model_version(weights[voter], domain="rain", name=f"rain/{voter}"))
    made.add(nodes.trivial_forecaster("trivial:advection"))
    async with Graph.connect(settings) as known:
        await known.write([made.bundle()])
        champion = weights["voter-0"].digest
        for name in (f"model:{champion}", f"model:{champion[7:19]}", "rain", "rain/voter-0"):
            assert (await find_model(known, name)).digest == champion
        assert (await find_model(known, "rain/voter-1")).digest == weights["voter-1"].digest
        for name in ("snow", "model:0000", "trivial:advection"):
            with pytest.raises((UnknownModel, InvalidInput)):
                await find_model(known, name)
    assert model.located(str(settings.data_dir.parent), None) == settings.data_dir.parent.resolve()
