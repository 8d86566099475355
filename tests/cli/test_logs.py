"""`nvp logs`: what four kinds of writers wrote, in the order of time, for a person or a program."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

from nvp_agentkit.cli.logs.lines import Level, Line, parse
from nvp_agentkit.cli.logs.tail import Log

STARTS = {"kind": "shadow", "event": "worker starts", "level": "info", "timestamp": "2026-03-01T10:00:01.000000Z"}
FAILS = {"event": "no lease", "level": "error", "timestamp": "2026-03-01T10:00:03.000000Z"}


def local(hour: int, second: int) -> datetime:
    return datetime(2026, 3, 1, hour, 0, second, tzinfo=UTC).astimezone()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A data folder with the logs of a stack that has ended."""
    for name in ("logs", "valkey", "arcadedb"):
        (tmp_path / name).mkdir()
    (tmp_path / "logs" / "shadow-1.log").write_text(f"{json.dumps(STARTS)}\n{json.dumps(FAILS)}\n")
    said = {"timestamp": "2026-03-01T10:00:02.000000Z", "level": "info", "name": "shadow-1", "state": "ready"}
    (tmp_path / "logs" / "stack.log").write_text(json.dumps(said | {"detail": "no model yet"}) + "\n")
    at = local(10, 0)
    (tmp_path / "valkey" / "valkey.log").write_text(f"77:M {at:%d %b %Y %H:%M:%S}.000 # overcommit is off\n")
    at = local(10, 4)
    severe = f"{at:%Y-%m-%d %H:%M:%S}.000 SEVER [Bolt] no database\njava.lang.Exception: x\n\tat a.b(C.java:1)\n"
    (tmp_path / "arcadedb" / "arcadedb.log").write_text(severe)
    return tmp_path


def test_all_logs_are_one_in_the_order_of_time(nvp, folder: Path) -> None:
    told = [line.split(maxsplit=4)[2:] for line in nvp("logs", "--data-dir", folder).out.splitlines()]
    assert told == [
        ["valkey", "warning", "overcommit is off"],
        ["shadow-1", "info", "worker starts  kind=shadow"],
        ["stack", "info", 'shadow-1 ready  detail="no model yet"'],
        ["shadow-1", "error", "no lease"],
        ["arcadedb", "error", "[Bolt] no database"],
        ["arcadedb", "error", "java.lang.Exception: x"],
        ["arcadedb", "error", "at a.b(C.java:1)"],
    ]


@pytest.fixture
def tokyo(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    with monkeypatch.context() as there:
        there.setenv("TZ", "Asia/Tokyo")
        time.tzset()
        yield
    time.tzset()


def test_times_are_local_ones(tokyo: None, nvp, folder: Path) -> None:
    told = nvp("logs", "--data-dir", folder).out.splitlines()
    assert [line[:14] for line in told[:2]] == ["03-01 19:00:00", "03-01 19:00:01"]
    assert "2026-03-01T10:00:00" in nvp("logs", "valkey", "--json", "--data-dir", folder).out


def test_one_log_the_last_lines_of_it_and_from_a_level_on(nvp, folder: Path) -> None:
    assert "worker starts" not in nvp("logs", "shadow-1", "-n", "1", "--data-dir", folder).out
    severe = nvp("logs", "--level", "error", "--data-dir", folder).out
    assert "no lease" in severe
    assert "C.java" in severe
    assert "overcommit" not in severe


def test_with_json_every_line_is_an_object_that_says_whose_it_is(nvp, folder: Path) -> None:
    told = [json.loads(line) for line in nvp("logs", "--json", "--data-dir", folder).out.splitlines()]
    assert told[0] == {"timestamp": "2026-03-01T10:00:00.000000Z", "level": "warning", "worker": "valkey",
                       "event": "overcommit is off"}  # fmt: skip
    assert told[1] == {"worker": "shadow-1", **STARTS}


def test_an_unknown_worker_is_told_which_there_are(nvp, folder: Path, tmp_path: Path) -> None:
    refused = nvp("logs", "shadow-7", "--data-dir", folder)
    assert refused.status == 1
    assert "no log of 'shadow-7'" in refused.err
    assert "shadow-1, stack, valkey, arcadedb" in refused.err
    assert "nvp up" in nvp("logs", "--data-dir", tmp_path / "empty").err


def test_a_traceback_is_seen_at_every_level_and_keeps_its_place() -> None:
    before = parse("tally", json.dumps(STARTS), None)
    raw = parse("tally", "Traceback (most recent call last):", before)
    assert raw.reaches(Level.error)
    assert raw.at == before.at
    told = {"exception": [{"exc_type": "ValueError", "exc_value": "x", "frames": [{"filename": "a.py", "lineno": 3,
            "name": "f"}]}], **FAILS}  # fmt: skip
    text = parse("tally", json.dumps(told), None).as_text().plain
    assert text.splitlines()[-2:] == ["    a.py:3 in f", "    ValueError: x"]


def test_text_for_people_is_understood_too() -> None:
    line = parse("tally", "2026-03-01T10:00:01.000000Z [warning  ] lease lost  request=7", None)
    assert line == Line("tally", "2026-03-01T10:00:01.000000Z", Level.warning, "lease lost  request=7")


@pytest.mark.parametrize(
    "text", ["{not json", "[1]", "12:M 99 Foo 2026 10:00:00 # x", "2026-13-01 00:00:00.000 INFO  x"]
)
def test_a_line_of_no_known_kind_is_shown_as_it_is(text: str) -> None:
    assert parse("tally", text, None) == Line("tally", "", None, text)


def test_a_line_whose_time_is_none_takes_the_one_before() -> None:
    before = parse("tally", json.dumps(STARTS), None)
    assert parse("tally", json.dumps(STARTS | {"timestamp": "noon"}), before).at == before.at


def test_what_is_being_written_comes_once_its_line_is_whole(tmp_path: Path) -> None:
    path = tmp_path / "a.log"
    log = Log("a", path)
    assert log.fresh() == []
    path.write_text("one\ntw")
    assert [line.event for line in log.fresh()] == ["one"]
    with path.open("a") as file:
        file.write("o\n")
    assert [line.event for line in log.fresh()] == ["two"]
    assert log.fresh() == []


def test_a_log_that_was_emptied_or_replaced_is_read_from_its_beginning(tmp_path: Path) -> None:
    path = tmp_path / "a.log"
    path.write_text("a long line\n")
    log = Log("a", path)
    log.fresh()
    path.write_text("short\n")
    assert [line.event for line in log.fresh()] == ["short"]
    path.replace(tmp_path / "a.log.1")
    path.write_text("another file's\n")
    assert [line.event for line in log.fresh()] == ["another file's"]


def test_a_worker_that_died_before_it_could_log_is_among_the_last_lines(tmp_path: Path) -> None:
    path = tmp_path / "a.log"
    path.write_text("ModuleNotFoundError: no jax\n")
    os.utime(path, (1e9, 1e9))
    (line,) = Log("a", path).fresh()
    assert line.at == "2001-09-09T01:46:40.000000Z"


@pytest.fixture
def following(folder: Path) -> Iterator[subprocess.Popen[str]]:
    words = [sys.executable, "-m", "nvp_agentkit.cli", "logs", "--follow", "-n", "1", "--data-dir", str(folder)]
    with subprocess.Popen(words, stdout=subprocess.PIPE, text=True) as process:
        yield process
        process.kill()


def test_follow_shows_what_comes_from_any_log(following: subprocess.Popen[str], folder: Path) -> None:
    assert following.stdout is not None
    assert "C.java" in following.stdout.readline()
    for name in ("shadow-1", "stack"):
        with (folder / "logs" / f"{name}.log").open("a") as file:
            file.write(json.dumps(FAILS | {"event": f"news of {name}"}) + "\n")
        assert f"news of {name}" in following.stdout.readline()
