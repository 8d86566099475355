"""One kind of line, whoever speaks: our workers, our rooms that know only `logging`, other people's libraries."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

PROGRAM = """
import logging, warnings, structlog
from nvp_agentkit.observability.logging import configure
from nvp_agentkit.settings import Settings
configure(Settings(log_format=FORMAT), worker="w")
structlog.contextvars.bind_contextvars(request="r-1")
structlog.get_logger().info("ours", n=1)
logging.getLogger("nvp_agentkit.streams.consumer").info("%s on %s", "1-0", "jobs")
try:
    password = "sec" + "ret"
    raise ValueError("told")
except ValueError:
    logging.getLogger("nvp_agentkit.streams.handling").exception("failed")
logging.getLogger("somebody.else").warning("theirs")
logging.getLogger("somebody.else").info("of no interest")
warnings.warn("deprecated", DeprecationWarning)
"""


def logged(log_format: str) -> list[str]:
    program = PROGRAM.replace("FORMAT", repr(log_format))
    done = subprocess.run([sys.executable, "-W", "always", "-c", program], capture_output=True, text=True, check=True)
    return done.stderr.splitlines()


def test_every_line_is_one_json_object_with_level_time_worker_and_the_request_at_hand() -> None:
    lines = [json.loads(line) for line in logged("json")]
    assert [line["event"] for line in lines[:4]] == ["ours", "1-0 on jobs", "failed", "theirs"]
    assert "deprecated" in lines[4]["event"]
    assert [line["level"] for line in lines] == ["info", "info", "error", "warning", "warning"]
    for line in lines:
        assert (line["worker"], line["request"]) == ("w", "r-1")
        assert line["timestamp"].endswith("Z")
    assert lines[1]["logger"] == "nvp_agentkit.streams.consumer"
    assert lines[2]["exception"][0]["exc_value"] == "told"


def test_text_has_the_same_lines_and_a_trace_to_read() -> None:
    text = "\n".join(logged("text"))
    assert "1-0 on jobs" in text
    assert "ValueError: told" in text
    assert "of no interest" not in text


@pytest.mark.parametrize("log_format", ["json", "text"])
def test_a_trace_shows_no_variables_for_passwords_are_among_them(log_format: str) -> None:
    text = "\n".join(logged(log_format))
    assert "ValueError" in text
    assert "secret" not in text
