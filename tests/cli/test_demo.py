"""`nvp demo` as a newcomer runs it: interrupted at any moment it leaves nothing, and the next run works."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

DEMO = [sys.executable, "-m", "nvp_agentkit.cli", "demo"]
SMALL = ["--size", "32", "--budget-j", "180"]
ENDED_S = 10.0


def environment(data_dir: Path) -> dict[str, str]:
    return {**os.environ, "NVP_DATA_DIR": str(data_dir), "PYTHONUNBUFFERED": "1"}


def path_without_nvp() -> str:
    return os.pathsep.join(one for one in os.environ["PATH"].split(os.pathsep) if not Path(one, "nvp").exists())


@contextmanager
def demo(data_dir: Path, *options: str) -> Iterator[subprocess.Popen[str]]:
    """The demo as a process of its own session, so that a signal to its group reaches it and nobody else."""
    with subprocess.Popen(
        [*DEMO, *options],
        env=environment(data_dir),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    ) as process:
        try:
            yield process
        finally:
            if process.poll() is None:
                process.kill()


def left_over(data_dir: Path) -> list[str]:
    """Commands of processes that carry the stack's mark for this folder."""
    mark = f"NVP_TETHERED_TO={data_dir}".encode()
    found = []
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            if mark in (entry / "environ").read_bytes().split(b"\0"):
                found.append((entry / "cmdline").read_text().replace("\0", " "))
        except OSError:  # it ended, or is somebody else's
            continue
    return found


@pytest.fixture(scope="module")
def data_dir(tmp_path_factory: pytest.TempPathFactory, compile_cache: Path) -> Path:
    return with_cache(tmp_path_factory.mktemp("demo") / "nvp", compile_cache)


def with_cache(data_dir: Path, compile_cache: Path) -> Path:
    """A new data folder that knows what other tests have compiled."""
    data_dir.mkdir()
    (data_dir / "compile-cache").symlink_to(compile_cache)
    return data_dir


@pytest.mark.slow
@pytest.mark.timeout(300)
@pytest.mark.skipif(sys.platform != "linux", reason="looks for left-over processes in /proc")
def test_ctrl_c_at_any_moment_ends_everything_within_ten_seconds(data_dir: Path) -> None:
    # The act of sabotage would cost a whole training here; a replacement interrupted is in tests/embedded.
    for moment in ("1 A stack", "2 Plasma", "3 Train"):  # of a start, more moments in tests/embedded
        with demo(data_dir, *SMALL) as process:
            assert process.stdout is not None
            for line in process.stdout:
                if moment in line:
                    break
            else:
                pytest.fail(f"the demo ended before {moment!r}")
            os.killpg(process.pid, signal.SIGINT)
            asked = time.monotonic()
            said = process.stdout.read()
            assert process.wait(timeout=ENDED_S) == 130, said
            assert time.monotonic() - asked < ENDED_S
            assert "Traceback" not in said
        assert left_over(data_dir) == []


@pytest.fixture
def field(tmp_path: Path) -> Path:
    """A wave that drifts, in J, over cells that are never observed and holes that move."""
    rng = np.random.default_rng(0)
    y, x = np.mgrid[0:32, 0:32] / 32
    drift = np.arange(60)[:, None, None] / 40
    values = (2 + np.sin(2 * np.pi * (x + drift)) * np.cos(2 * np.pi * (y - drift))).astype(np.float32)
    values[rng.random(values.shape) < 0.02] = np.nan
    values[:, :4, :4] = np.nan
    np.savez(tmp_path / "field.npz", waves=values, other=np.zeros(3))
    return tmp_path / "field.npz"


@pytest.mark.slow
@pytest.mark.timeout(450)
def test_on_the_folder_of_an_interrupted_one_it_plays_all_acts_with_a_field_of_the_users_own(
    data_dir: Path, field: Path
) -> None:
    done = subprocess.run(
        [*DEMO, "--data", f"{field}:waves", "--units", "J", "--budget-j", "240", "--json"],
        env=environment(data_dir) | {"PATH": path_without_nvp()},
        capture_output=True, text=True, timeout=420, check=False,
    )  # fmt: skip
    said = done.stderr
    assert done.returncode == 0, said + done.stdout
    told = json.loads(done.stdout)
    assert "Traceback" not in said
    for expected in ("cells have no value: a mask", "voter-0 (champion)", "errors of two members",
                     "valid: ", "insufficient_joules:",
                     "budget_too_small:", "invalid_field:", "voter-2 dissents ", "a plain mean of the votes",
                     "answers: 1; ", "(attempt 2)", "certified, asked by ace:demo", "bin/activate ",
                     "Whole demo:"):  # fmt: skip
        assert expected in said
    assert 0 < told["training_mj"] <= min(240_000, told["charged_mj"])
    assert f"{told['skill']:+.3f}" in said
    with Image.open(data_dir / "demo" / "forecast.png") as picture:
        colours = {colour: number for number, colour in picture.convert("RGB").getcolors(1 << 20) or ()}
    assert colours[209, 209, 209] > 1000  # where nothing was observed
    assert left_over(data_dir) == []
    verified = subprocess.run(
        [sys.executable, "-m", "nvp_agentkit.cli", "verify", told["certificate"]],
        env=environment(data_dir), capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert verified.returncode == 0, verified.stderr
    assert "recomputed" in verified.stdout
