"""The examples run as they stand against a real stack, say what our own client says, and pass a refusal on."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from redis import Redis

from nvp_agentkit.client import SyncAgentClient
from nvp_agentkit.messages.values import digest_of
from nvp_agentkit.settings import Settings

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"
SAID = re.compile(r"mean (?P<mean>[\d.]+) of 32 x 32 cells, (?P<joules>[\d.]+) J by (?P<model>\S+)")

pytestmark = [
    pytest.mark.xdist_group("tests/examples"),  # one stack
    pytest.mark.timeout(300),  # the first time packages are installed
]


def blob() -> np.ndarray:
    """Two frames of a blob on its way to the right, as Node and Go make them."""
    frame, y, x = np.mgrid[0:2, 0:32, 0:32]
    return (1 + np.exp(-((x - 12 - 2 * frame) ** 2 + (y - 16) ** 2) / 18)).astype(np.float32)


def halves() -> np.ndarray:
    """An upper half of 1 and a lower half of 2, as the shell makes them."""
    return np.repeat(np.float32([1, 2]), 16)[:, None].repeat(32, axis=1)


@dataclass(frozen=True)
class Example:
    """A program, ready to run."""

    command: list[str]
    folder: Path
    field: np.ndarray

    def run(self, url: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            self.command, cwd=self.folder, env=os.environ | {"NVP_REDIS_URL": url},
            capture_output=True, text=True, check=False, timeout=120,
        )  # fmt: skip


@pytest.fixture(params=["node", "go", "shell"])
def example(request: pytest.FixtureRequest) -> Example:
    return request.getfixturevalue(request.param)


@pytest.fixture
def node(node_packages: Callable[[Path], None]) -> Example:
    node_packages(EXAMPLES / "node")
    return Example(["node", "forecast.mjs"], EXAMPLES / "node", blob())


@pytest.fixture
def go(unavailable: Callable[[str], None]) -> Example:
    installed("go")
    done = subprocess.run(["go", "mod", "download"], cwd=EXAMPLES / "go", capture_output=True, text=True, check=False)
    if done.returncode:
        unavailable(f"no Go modules: {done.stderr.strip()}")
    return Example(["go", "run", "."], EXAMPLES / "go", blob())


@pytest.fixture
def shell() -> Example:
    installed("redis-cli", "jq")
    return Example(["./forecast.sh"], EXAMPLES / "shell", halves())


def installed(*programs: str) -> None:
    missing = [program for program in programs if shutil.which(program) is None]
    if missing:
        pytest.skip(f"not installed: {', '.join(missing)}")


def test_an_example_says_what_our_client_says(example: Example, place: Settings, rich: str) -> None:
    with SyncAgentClient.connect("ace-1", settings=place) as nvp:
        ours = nvp.predict(example.field, domain="plasma_physics", budget_j=2)
    done = example.run(rich)
    assert done.returncode == 0, done.stderr
    said = SAID.fullmatch(done.stdout.strip())
    assert said is not None, done.stdout
    assert float(said["mean"]) == pytest.approx(float(ours.mean.mean()), abs=1e-4)
    assert said["model"] in ours.models.values()
    assert 0 < float(said["joules"]) <= 2
    # To the last bit: its field came as it was meant, row by row.
    assert newest_answer(rich)["data"]["mean"]["digest"] == digest_of(ours.mean.tobytes())


def newest_answer(url: str) -> dict[str, Any]:
    with Redis.from_url(url) as redis:
        ((_, entry),) = redis.xrevrange("nvp:{ace-1}:replies", count=1)
    event: dict[str, Any] = json.loads(entry[b"event"])
    return event


def test_an_example_passes_a_refusal_on(example: Example, poor: str) -> None:
    done = example.run(poor)
    assert done.returncode == 1
    assert "insufficient_joules" in done.stderr
    assert "account ace-2: 2.0 J asked, 0.001 J left" in done.stderr


@pytest.mark.parametrize("folder", ["examples/node", "tests/messages/node"])
def test_a_lock_file_names_versions_and_no_server(folder: str) -> None:
    lock = json.loads((EXAMPLES.parent / folder / "package-lock.json").read_text())
    assert all("version" in package and "integrity" in package for name, package in lock["packages"].items() if name)
    assert not [name for name, package in lock["packages"].items() if "resolved" in package]
