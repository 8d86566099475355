"""What a program that calls `nvp` can rely on: statuses, one document with --json, plain lines where nobody looks."""

from __future__ import annotations

import json
import os
import pty
import re
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

from nvp_agentkit.cli import deployment
from nvp_agentkit.errors import InsufficientJoules, MissingExtra

NVP = [sys.executable, "-m", "nvp_agentkit.cli"]
COLOUR = re.compile(r"\x1b\[(?:\d+;)*(?:3\d|4\d|9\d|10\d)(?:;\d+)*m")


def environment(**more: str) -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith("NVP_") and name != "NO_COLOR"}
    return kept | {"TERM": "xterm-256color", "COLUMNS": "80"} | more


def on_a_terminal(*words: str, command: Sequence[str] = NVP, **more: str) -> str:
    """What the command writes to a terminal."""
    ours, theirs = pty.openpty()
    with subprocess.Popen([*command, *words], stdout=theirs, stderr=theirs, stdin=theirs, env=environment(**more)):
        os.close(theirs)
        said = b""
        try:
            while part := os.read(ours, 65_536):
                said += part
        except OSError:  # Linux ends a terminal so
            pass
    os.close(ours)
    return said.decode()


@pytest.fixture
def logged(tmp_path: Path) -> Path:
    """A data folder with a log in it."""
    (tmp_path / "logs").mkdir()
    line = {"event": "lease lost", "level": "warning", "timestamp": "2026-01-02T03:04:05.000006Z"}
    (tmp_path / "logs" / "inference.log").write_text(json.dumps(line) + "\n")
    return tmp_path


def test_done_is_0_and_refused_is_1_with_one_line_on_standard_error(nvp, tmp_path: Path) -> None:
    assert nvp("keys", "--data-dir", tmp_path).status == 0
    refused = nvp("status", "--data-dir", tmp_path)
    assert (refused.status, refused.out) == (1, "")
    assert refused.err.splitlines() == [
        f"stack_not_running: no stack runs on data folder {tmp_path}; `nvp up` starts one"
    ]


def test_an_error_with_json_is_the_one_document_on_standard_output(nvp, tmp_path: Path) -> None:
    refused = nvp("status", "--json", "--data-dir", tmp_path)
    assert (refused.status, refused.err) == (1, "")
    assert refused.json["error"] == "stack_not_running"
    assert "nvp up" in refused.json["detail"]


@pytest.mark.parametrize("words", [("verify",), ("status", "--loud"), ("statsu",), ("logs", "--lines", "many")])
def test_wrong_usage_is_2(nvp, words: tuple[str, ...]) -> None:
    plain = nvp(*words)
    assert (plain.status, plain.out) == (2, "")
    assert "Usage: nvp" in plain.err
    asked = nvp(*words, "--json")
    assert (asked.status, asked.err) == (2, "")
    assert asked.json["error"] == "usage"


def test_what_an_error_says_in_brackets_is_not_taken_for_markup(nvp, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(_: Path | None) -> None:
        raise MissingExtra.of("jax", extra="model")

    monkeypatch.setattr(deployment, "settings_for", broken)
    assert "pip install 'nvp-agentkit[model]'" in nvp("keys").err


def test_a_disk_or_folder_that_refuses_is_1_and_no_traceback(nvp, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    refused = nvp("keys", "--data-dir", tmp_path / "file")
    assert refused.status == 1
    assert "Not a directory" in refused.err
    assert "nvp doctor" in refused.err
    assert len(refused.err.splitlines()) == 1


def test_a_field_that_is_not_there_is_said_before_a_stack_is_started(nvp, tmp_path: Path) -> None:
    refused = nvp("demo", "--data", tmp_path / "rain.npz", "--data-dir", tmp_path / "nvp", "--json")
    assert "rain.npz: no such file; give the path of a field" in refused.json["detail"]
    assert not (tmp_path / "nvp").exists()


def test_a_data_folder_that_is_a_file_is_said_to_be_one(nvp, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    refused = nvp("up", "--data-dir", tmp_path / "file", "--json").json
    assert refused["detail"].startswith(f"data folder {tmp_path / 'file'}: is a file")


def test_interrupted_is_130_and_no_traceback(logged: Path) -> None:
    with subprocess.Popen(
        [*NVP, "logs", "--follow", "--data-dir", str(logged)],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment(),
    ) as process:  # fmt: skip
        assert process.stdout is not None
        assert process.stderr is not None
        assert "lease lost" in process.stdout.readline()
        process.send_signal(signal.SIGINT)
        assert process.wait(timeout=10) == 130
        assert process.stderr.read() == ""


def test_interrupted_while_it_is_imported_it_is_130_and_no_traceback() -> None:
    program = (
        "import sys\n"
        "class Interrupted:\n"
        "    def find_spec(name, path, target=None):\n"
        "        if name == 'nvp_agentkit.cli.app': raise KeyboardInterrupt\n"
        "sys.meta_path.insert(0, Interrupted)\n"
        "from nvp_agentkit.cli import main\n"
        "main()"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (130, "")


def test_a_refusal_names_options_where_the_client_has_arguments(nvp, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(_: Path | None) -> None:
        raise InsufficientJoules(
            "lower `budget_j`, pass budget_j=5.0, or assurance='single'; train(budget_j=...); `force` it"
        )

    monkeypatch.setattr(deployment, "settings_for", broken)
    said = nvp("keys").err
    assert "lower `--budget-j`, pass --budget-j=5.0, or --assurance single; train(budget_j=...); `--force` it\n" in said
    assert "`budget_j`" in nvp("keys", "--json").json["detail"]  # as every client gets it


def test_a_certificate_that_is_none_or_has_no_root_key_is_named(nvp, tmp_path: Path) -> None:
    (tmp_path / "notes.md").write_text("no certificate")
    words = ("verify", tmp_path / "notes.md", "--data-dir", tmp_path, "--json")
    assert "keys/root.pub: no root key there to verify with; give --root FILE" in nvp(*words).json["detail"]
    nvp("keys", "--data-dir", tmp_path)
    refused = nvp(*words).json
    assert refused["error"] == "verification_failed"
    assert refused["detail"].startswith(f"{tmp_path / 'notes.md'}: not a DSSE envelope, which certificates")


def test_no_color_is_honoured(logged: Path) -> None:
    for words in (("logs", "--data-dir", str(logged)), ("--help",), ("statsu",)):
        assert COLOUR.search(on_a_terminal(*words)), words
        assert not COLOUR.search(on_a_terminal(*words, NO_COLOR="1")), words


def test_into_a_pipe_go_plain_lines(logged: Path) -> None:
    done = subprocess.run(
        [*NVP, "logs", "--data-dir", str(logged)], capture_output=True, text=True, env=environment(), check=True
    )
    assert "\x1b" not in done.stdout
    assert done.stdout.endswith("lease lost\n")


def test_a_terminal_without_our_marks_gets_a_question_mark() -> None:
    # A variable that cannot be read ends the examination early.
    done = subprocess.run(
        [*NVP, "doctor"],
        capture_output=True, text=True, env=environment(PYTHONIOENCODING="ascii", NVP_MAX_CELLS="few"), check=False,
    )  # fmt: skip
    assert done.returncode == 1
    assert "? settings" in done.stdout
    assert done.stderr == ""


@pytest.mark.parametrize(
    ("typed", "offered"),
    [
        ("nvp sta", "status"),
        ("nvp logs --fo", "--follow"),
        ("nvp logs inf", "inference"),
        ("nvp worker shadow", "shadow-2"),
    ],
)
def test_a_shell_completes_commands_options_and_workers(typed: str, offered: str, logged: Path) -> None:
    asked = {"_NVP_COMPLETE": "complete_bash", "COMP_WORDS": typed, "COMP_CWORD": str(typed.count(" "))}
    done = subprocess.run(
        NVP, capture_output=True, text=True, env=environment(NVP_DATA_DIR=str(logged), **asked), check=False
    )
    assert offered in done.stdout.split()


def test_a_workers_text_is_coloured_on_a_terminal_only() -> None:
    program = (
        "import structlog; from nvp_agentkit.observability.logging import configure;"
        "from nvp_agentkit.settings import Settings; configure(Settings(log_format='text'), worker='tally');"
        "structlog.get_logger().warning('lease lost')"
    )
    run = [sys.executable, "-c", program]
    assert COLOUR.search(on_a_terminal(command=run))
    assert not COLOUR.search(on_a_terminal(command=run, NO_COLOR="1"))
    done = subprocess.run(run, capture_output=True, text=True, env=environment(), check=True)
    assert "\x1b" not in done.stderr
    assert "lease lost" in done.stderr
