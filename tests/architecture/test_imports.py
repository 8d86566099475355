"""What an import costs an agent: no JAX, no driver it does not use."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

HEAVY = (
    "jax", "flax", "optax", "neo4j", "obstore", "safetensors", "matplotlib", "cryptography.hazmat", "cv2", "xarray",
)  # fmt: skip


def loaded(module: str) -> set[str]:
    """Which of the heavy modules a fresh process has after importing ``module``."""
    program = f"import json, sys, {module}; print(json.dumps([name for name in {HEAVY!r} if name in sys.modules]))"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    return set(json.loads(done.stdout))


@pytest.mark.parametrize("module", ["nvp_agentkit", "nvp_agentkit.client", "nvp_agentkit.cli.app"])
def test_a_client_and_the_command_line_are_light(module: str) -> None:
    assert loaded(module) == set()


def test_the_package_gives_the_client_when_asked() -> None:
    program = "import nvp_agentkit, sys; nvp_agentkit.AgentClient; sys.exit('jax' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0


@pytest.mark.parametrize("kind", ["training", "inference", "shadow", "tally", "recorder"])
def test_the_front_of_a_worker_never_imports_jax(kind: str) -> None:
    assert loaded(f"nvp_agentkit.workers.{kind}") & {"jax", "flax", "optax"} == set()


def test_the_heavy_modules_are_seen_when_they_are_there() -> None:
    assert {"jax", "flax"} <= loaded("nvp_agentkit.model")
    assert "neo4j" in loaded("nvp_agentkit.lineage.graph")
