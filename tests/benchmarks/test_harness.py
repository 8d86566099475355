"""A benchmark is a program with a verdict: a table, one JSON object, an exit status that say the same."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from benchmarks import __main__ as program
from benchmarks import demo, process_tree
from benchmarks.process_tree import PeakPss, pss_kb, tree
from benchmarks.verdict import BrokenError, Figure, Verdict

ROOT = Path(__file__).resolve().parents[2]
RESULTS = sorted((ROOT / "benchmarks" / "results").glob("*.json"))
KEYS = {"benchmark", "figures", "ok", "quick", "date", "machine", "versions"}


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "benchmarks", *arguments], cwd=ROOT, capture_output=True, text=True, check=False
    )


def test_the_list_names_each_with_one_line() -> None:
    lines = run("--list").stdout.splitlines()
    assert [line.split()[0] for line in lines] == sorted(program.BENCHMARKS)
    assert all(len(line.split()) > 4 for line in lines)


@pytest.mark.parametrize("arguments", [(), ("nothing",), ("--slow",)])
def test_wrong_usage_is_two(arguments: tuple[str, ...]) -> None:
    assert run(*arguments).returncode == 2


def test_import_time_gives_its_verdict_in_the_last_line() -> None:
    done = run("import_time", "--quick")
    *table, last = done.stdout.splitlines()
    said = json.loads(last)
    assert set(said) == KEYS
    assert said["quick"] is True
    assert [line.split()[0] for line in table[1:]] == list(said["figures"])
    assert set(said["figures"]["ratio"]) == {"value", "unit", "floor", "goal", "higher_is_better"}
    assert said["figures"]["heavy_modules"]["value"] == 0
    assert said["ok"] is (done.returncode == 0)


@pytest.mark.parametrize(
    ("figure", "met"),
    [
        (Figure(1.3, "x", floor=1.3), True),
        (Figure(1.31, "x", floor=1.3), False),
        (Figure(0.2, "1", floor=0.1, higher_is_better=True), True),
        (Figure(0.1, "1", floor=0.1, higher_is_better=True), True),
        (Figure(0.0, "1", floor=0.1, higher_is_better=True), False),
        (Figure(None, "GB", floor=3.0), False),
        (Figure(None, "GB"), True),
        (Figure(100.0, "s", floor=120.0, goal=60.0), True),
    ],
)
def test_ok_means_every_floor_is_met(figure: Figure, met: bool) -> None:
    verdict = Verdict("some", quick=True, figures={"good": Figure(1.0, "s"), "it": figure})
    assert verdict.ok is met
    assert ("MISSED" in verdict.table()) is not met


@pytest.fixture
def results(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(program, "RESULTS", tmp_path)
    return tmp_path


def measured(monkeypatch: pytest.MonkeyPatch, outcome: dict[str, Figure] | BrokenError) -> None:
    def measure(*, quick: bool, count: int = 1) -> dict[str, Figure]:
        if isinstance(outcome, BrokenError):
            raise outcome
        return outcome

    monkeypatch.setattr(demo, "measure", measure)


@pytest.mark.parametrize(("value", "status"), [(1.0, 0), (3.0, 1)])
def test_a_full_run_is_kept_and_its_status_is_its_verdict(
    value: float, status: int, results: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    measured(monkeypatch, {"seconds": Figure(value, "s", floor=2.0)})
    assert program.main(["demo"]) == status
    last = capsys.readouterr().out.splitlines()[-1]
    assert json.loads((results / "demo.json").read_text()) == json.loads(last)
    assert json.loads(last)["ok"] is (status == 0)


@pytest.mark.parametrize("smaller", [("--quick",), ("--count", "3")])
def test_a_smaller_run_is_not_kept(smaller: tuple[str, ...], results: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    measured(monkeypatch, {"seconds": Figure(1.0, "s")})
    assert program.main(["demo", *smaller]) == 0
    assert list(results.iterdir()) == []


def test_a_broken_run_says_why_and_is_not_kept(
    results: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    measured(monkeypatch, BrokenError("nvp demo ended with status 1"))
    assert program.main(["demo"]) == 1
    said = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert (said["ok"], said["error"]) == (False, "nvp demo ended with status 1")
    assert list(results.iterdir()) == []


@pytest.mark.parametrize("path", RESULTS, ids=lambda path: path.stem)
def test_a_committed_result_is_of_a_full_run(path: Path) -> None:
    said: dict[str, Any] = json.loads(path.read_text())
    assert set(said) == KEYS
    assert (said["benchmark"], said["quick"]) == (path.stem, False)


@pytest.fixture
def family() -> Iterator[subprocess.Popen[str]]:
    """A process whose child holds 64 MB and says so."""
    child = "held = bytearray(b'x') * (64 << 20); print('ready', flush=True); input()"
    parent = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {child!r}])"
    with subprocess.Popen(
        [sys.executable, "-c", parent], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        yield process
        process.communicate("\n")


def test_memory_is_that_of_the_whole_tree(family: subprocess.Popen[str]) -> None:
    assert len(tree(family.pid)) == 2
    assert pss_kb(family.pid) < 64 * 1024
    with PeakPss(family.pid) as memory:
        pass
    assert memory.peak_gb is not None
    assert 0.0625 < memory.peak_gb < 0.25


def test_a_process_that_is_gone_holds_nothing() -> None:
    gone = subprocess.Popen([sys.executable, "-c", ""])
    gone.wait()
    assert pss_kb(gone.pid) == 0


SAYS = """
import os, signal, sys, time
signal.signal(signal.SIGINT, lambda *_: sys.exit(130))
print("   held out by trajectory: champion's skill over the best trivial forecast (advection)")
print("+0.250; 90% interval covers 91%")
print("   valid: 3 of 3 agree")
{end}
"""


@pytest.fixture
def pretend(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Any:
    """Let `demo.play` start a program of ours in the place of ``nvp demo``."""

    def install(end: str) -> None:
        folder = tmp_path / "nvp_agentkit" / "cli"
        folder.mkdir(parents=True)
        (folder.parent / "__init__.py").touch()
        (folder / "__main__.py").write_text(SAYS.format(end=end))
        (folder / "__init__.py").touch()
        monkeypatch.setattr(process_tree, "ROOT", tmp_path)

    return install


def test_a_demo_is_read_as_it_speaks(pretend: Any, tmp_path: Path) -> None:
    pretend("time.sleep(1.0); sys.exit('NVP_REDIS_URL' in os.environ)")
    told = demo.play(tmp_path / "data", limit_s=20.0)
    assert told.skill == 0.25
    assert told.certified_s is not None
    assert told.whole_s >= told.certified_s + 0.9
    assert told.pss_gb is not None


def test_a_quick_demo_is_interrupted_at_its_answer(pretend: Any, tmp_path: Path) -> None:
    pretend("time.sleep(60)")
    told = demo.play(tmp_path / "data", limit_s=20.0, to_the_end=False)
    assert told.certified_s is not None
    assert told.whole_s is None


def test_a_demo_sees_no_store_of_ours(pretend: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NVP_REDIS_URL", "redis://127.0.0.1:1")
    pretend("sys.exit('NVP_REDIS_URL' in os.environ)")
    demo.play(tmp_path / "data", limit_s=20.0)


def test_a_demo_that_fails_breaks_the_benchmark(pretend: Any, tmp_path: Path) -> None:
    pretend("print('stack: no room'); sys.exit(1)")
    with pytest.raises(BrokenError, match=r"status 1 after .*: stack: no room"):
        demo.play(tmp_path / "data", limit_s=20.0)


def test_a_demo_that_hangs_is_ended(pretend: Any, tmp_path: Path) -> None:
    pretend("open('pid', 'w').write(str(os.getpid())); time.sleep(60)")
    with pytest.raises(BrokenError, match="limit 1 s"):
        demo.play(tmp_path / "data", limit_s=1.0)
    with pytest.raises(ProcessLookupError):
        os.kill(int((tmp_path / "data" / "pid").read_text()), signal.SIGTERM)
