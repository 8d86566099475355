"""A worker's log may be on a full disk; its work goes on."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

PROGRAM = """
import sys, traceback, structlog
from nvp_agentkit.observability.logging import configure
from nvp_agentkit.settings import Settings
configure(Settings(), worker="w")
for line in range(3):
    structlog.get_logger().warning("no room", line=line)
print("plain ünd \\udc80", file=sys.stderr)
try:
    raise ValueError("told")
except ValueError:
    traceback.print_exc()
print("done")
"""


def run(stderr) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", PROGRAM]
    return subprocess.run(command, stdout=subprocess.PIPE, stderr=stderr, text=True, check=False)


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="this system has no /dev/full")
def test_what_cannot_be_logged_is_left_out_and_nothing_fails() -> None:
    with Path("/dev/full").open("w") as full:
        done = run(full)
    assert (done.returncode, done.stdout) == (0, "done\n")


def test_what_can_be_logged_is() -> None:
    done = run(subprocess.PIPE)
    assert done.returncode == 0
    assert done.stderr.count("no room") == 3
    assert "plain ünd \\udc80\n" in done.stderr
    assert "ValueError: told" in done.stderr
