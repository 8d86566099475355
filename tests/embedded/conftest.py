"""A data folder whose processes are counted when the test is over, and a stack run by another process."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from nvp_agentkit.embedded import lock
from nvp_agentkit.settings import Settings


@pytest.fixture
def data_dir(tmp_path: Path) -> Iterator[Path]:
    """A folder on which nothing may run any more at the end."""
    folder = tmp_path / "nvp"
    yield folder
    assert lock.left_over(folder) == []


@pytest.fixture
def half_stack(arcadedb, data_dir: Path) -> Settings:
    """Settings with which a stack starts a Valkey of its own and uses the session's graph: quick to start."""
    return Settings(
        data_dir=data_dir,
        neo4j_uri=arcadedb.uri,
        neo4j_user=arcadedb.user,
        neo4j_password=arcadedb.password,
        neo4j_database=arcadedb.database,
    )


@pytest.fixture
def run_stack(data_dir: Path, tmp_path: Path) -> Iterator[Callable[..., subprocess.Popen[bytes]]]:
    """Start `stack_program` on the data folder; ``wait`` until its workers are ready."""
    started: list[subprocess.Popen[bytes]] = []
    output = tmp_path / "output"

    def run(*, wait: bool = True, **environment: str) -> subprocess.Popen[bytes]:
        with output.open("wb") as file:
            process = subprocess.Popen(
                [sys.executable, str(Path(__file__).with_name("stack_program.py")), str(data_dir)],
                env={**os.environ, **environment},
                stdout=file,
                stderr=file,
                start_new_session=True,
            )
        started.append(process)
        deadline = time.monotonic() + 60
        while wait and b"READY" not in output.read_bytes():
            assert process.poll() is None, output.read_text()
            assert time.monotonic() < deadline, output.read_text()
            time.sleep(0.05)
        return process

    yield run
    for process in started:
        if process.poll() is None:
            process.send_signal(signal.SIGKILL)
        process.wait()
