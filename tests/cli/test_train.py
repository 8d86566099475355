"""`nvp train`: the founding document's script, without stack or account."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from nvp_agentkit.model import load_model
from tests.conftest import QUICKLY_COMPILED

SMALLEST = ("--size", "16", "--trajectories", "3", "--frames", "6", "--batch-size", "4", "--domain", "heat_diffusion")


def train(*words: str, folder: Path, status: int = 0) -> subprocess.CompletedProcess[str]:
    program = [sys.executable, "-m", "nvp_agentkit.cli", "train", *SMALLEST, *words]
    environment = {**os.environ, "XLA_FLAGS": QUICKLY_COMPILED}
    done = subprocess.run(program, cwd=folder, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == status, done.stderr + done.stdout
    return done


@pytest.mark.slow
def test_it_trains_here_and_says_what_the_document_s_criteria_leave_out(tmp_path: Path) -> None:
    (tmp_path / ".nvp").mkdir()
    done = train("--epochs", "2", "--json", folder=tmp_path)
    assert list((tmp_path / ".nvp" / "compile-cache").glob("*-cache"))  # a second run compiles nothing
    document = json.loads(done.stdout)
    said = done.stderr
    assert "making 3 sequences" in said
    assert said.count(" J\n", 0, said.index("Made 3 sequences")) == 5  # a simulation is not silent
    assert "Energy: (1, 6, 16, 16)" in said
    assert "Gradients: (1, 6, 16, 16, 2)" in said
    assert "Epoch 2/2" in said
    assert "Energy Fidelity > 0.90" in said
    assert f"skill {document['skill']:+.3f} over {document['baseline']}" in said
    assert document["criteria"]["Entropy Coherence > 0.85"]["doing_nothing"] > 0.85
    assert document["mj"] > 0
    assert document["stopped_by"] == "epochs"
    assert load_model(tmp_path / document["model"]).domain == "heat_diffusion"
    assert (tmp_path / "checkpoints" / "metrics.json").exists()


def test_a_budget_that_does_not_reach_a_domain_and_a_parent_that_are_none_are_refused_in_a_line(tmp_path: Path) -> None:
    small = train("--budget-j", "60", folder=tmp_path, status=1)
    assert small.stderr.startswith("budget_too_small: budget 60.0 J, a network that is trained at all and judged")
    assert small.stdout == ""  # nothing was simulated
    nothing = train("--budget-j", "0", folder=tmp_path, status=1)
    assert nothing.stderr.startswith("budget_too_small: budget 0.0 J")
    for name, value, said in [("--lr", "-1", "learning_rate is -1.0"), ("--batch-size", "9", "give 4 windows")]:
        refused = train(name, value, folder=tmp_path, status=1)
        assert refused.stderr.startswith("invalid_input: ")
        assert said in refused.stderr
        assert refused.stdout == ""
    unknown = train("--domain", "nonsense", "--json", folder=tmp_path, status=1)
    assert json.loads(unknown.stdout)["error"] == "unknown_domain"
    orphan = train("--parent", "none.safetensors", folder=tmp_path, status=1)
    assert orphan.stderr.startswith("invalid_file: none.safetensors cannot be read")
    assert orphan.stdout == ""


def test_a_file_s_sequences_are_taken_in_and_cells_without_a_value_are_sent_elsewhere(tmp_path: Path) -> None:
    holed = np.random.default_rng(0).random((3, 6, 16, 16), np.float32)
    holed[:, :, 2, 3] = np.nan
    np.savez(tmp_path / "sea.npz", sst=holed)
    refused = train("--data", "sea.npz:sst", folder=tmp_path, status=1)
    assert "Loaded 3 sequences" in refused.stdout
    assert refused.stderr.startswith("invalid_field: these fields have cells without a value")
    assert "nvp demo --data" in refused.stderr


def test_data_of_the_domain_that_lie_here_are_found(tmp_path: Path) -> None:
    holed = np.full((3, 6, 16, 16), np.nan, np.float32)
    (tmp_path / "data").mkdir()
    np.savez(tmp_path / "data" / "heat_diffusion.npz", field=holed)
    np.savez(tmp_path / "data" / "plasma_physics.npz", field=holed)
    refused = train(folder=tmp_path, status=1)
    assert refused.stdout.startswith(f"Found {Path('data', 'heat_diffusion.npz')}\n")
    assert "making" not in refused.stdout
    np.save(tmp_path / "data" / "heat_diffusion.npy", holed)
    unsure = train(folder=tmp_path, status=1)
    assert "heat_diffusion.npy, heat_diffusion.npz; say which with --data" in unsure.stderr
