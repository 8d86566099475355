"""The docs are true: their Python runs as it stands, on a stack started as README says; commands and links exist."""

from __future__ import annotations

import ast
import asyncio
import json
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from inspect import CO_COROUTINE
from pathlib import Path
from typing import Any

import pytest
import typer

from nvp_agentkit import SyncAgentClient
from nvp_agentkit.cli.app import app
from nvp_agentkit.errors import PluginFailed, UnknownName

ROOT = Path(__file__).resolve().parents[2]
README = (ROOT / "README.md").read_text()
FORECASTS = (ROOT / "docs" / "forecasts.md").read_text()
PAGES = sorted([ROOT / "README.md", ROOT / "CONTRIBUTING.md", *(ROOT / "docs").rglob("*.md")])
BLOCK = re.compile(r"^```(\w+)\n(.*?)^```", re.MULTILINE | re.DOTALL)
COMMAND = re.compile(r"(?:^\$ |^ {3,4}|`)(nvp [a-z][^`\n]*)", re.MULTILINE)


def nvp(*arguments: str, folder: Path) -> str:
    done = subprocess.run(
        [sys.executable, "-m", "nvp_agentkit.cli", *arguments], cwd=folder, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr + done.stdout
    return done.stdout


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory, compile_cache: Path) -> Iterator[Path]:
    """What README asks for before its Python: `nvp up` and an account, in a folder of their own."""
    folder = tmp_path_factory.mktemp("docs")
    (folder / ".nvp").mkdir()
    (folder / ".nvp" / "compile-cache").symlink_to(compile_cache)
    with pytest.MonkeyPatch.context() as environment:
        environment.setenv("PYTHONPATH", str(brought(folder / "site")))
        nvp("up", folder=folder)
    try:
        nvp("account", "create", "ace-1", "--limit-j", "500", folder=folder)
        assert "ready" in nvp("status", folder=folder)
        yield folder
    finally:
        nvp("down", folder=folder)


def brought(site: Path) -> Path:
    """Packages for the workers beside those of this environment: the example of docs/extending.md, and a broken one."""
    install = ["install", "-q", "--no-index", "--no-deps", "--no-build-isolation", "--target", str(site)]
    example = ROOT / "examples" / "foreign_forecaster"
    subprocess.run([sys.executable, "-m", "pip", *install, str(example)], check=True)
    (site / "broken.py").write_text("raise ImportError('half installed')\n")
    about = site / "broken-1.0.dist-info"
    about.mkdir()
    (about / "METADATA").write_text("Metadata-Version: 2.1\nName: broken\nVersion: 1.0\n")
    (about / "entry_points.txt").write_text("[nvp_agentkit.models]\nbroken = broken\n")
    return site


def run(page: str, folder: Path) -> tuple[dict[str, Any], list[str]]:
    """Run the blocks of a page in their order: what its Python leaves behind, and what its commands print."""
    names: dict[str, Any] = {}
    printed = []
    for language, source in BLOCK.findall(page):
        if language == "console":
            lines = re.findall(r"^\$ nvp (.*)$", source, re.MULTILINE)
            printed += [nvp(*shlex.split(line), folder=folder) for line in lines]
        if language == "python":
            code = compile(source, "page", "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
            if code.co_flags & CO_COROUTINE:
                asyncio.run(eval(code, names))
            else:
                exec(code, names)
    return names, printed


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_the_python_of_readme_runs_as_it_stands(
    stack: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(stack)
    names, _ = run(README.replace("```console", "```text"), stack)  # its commands are for a field of the reader's own
    said = capsys.readouterr().out
    assert "recomputed=True" in said
    assert "1,000,000.0 J asked" in said
    assert names["forecast"].mean.shape == names["field"].shape[-2:]


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_the_page_on_forecasts_runs_as_it_stands(
    stack: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(stack)
    names, (told, document) = run(FORECASTS, stack)
    assert "by trivial:lagrangian_increment, not calibrated" in capsys.readouterr().out
    assert "frame 40 of rain.npz:rain_mm_h" in told
    assert json.loads(document)["score"]["skill"] > 0.5
    for written in ("next.nc", "next.png", "hindcast.png", "rain.nc"):
        assert (stack / written).stat().st_size > 1000
    explained = set(re.findall(r"`(\w+)`", FORECASTS)) | {"Conventions", "title", "history", "domain"}
    assert explained >= {*names["dataset"].variables, *names["dataset"].attrs}


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_the_page_on_the_atlas_runs_as_it_stands(stack: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(stack)
    _, printed = run((ROOT / "docs" / "atlas.md").read_text(), stack)
    brought, judged, checked, drawn, _, again, listed, shown, alike = printed
    assert "rain: 1 x 80 frames of 48x64 cells in mm/h" in brought
    assert judged.splitlines()[1].startswith(("advection", "lagrangian_increment"))
    assert "intervals by blocks of frames" in judged
    assert (stack / "rain-forecasts.png").stat().st_size > 1000
    assert "none is in two parts" in checked
    assert "film: rain.gif" in drawn
    assert (json.loads(again)["jobs_done_before"], json.loads(again)["mj"]) == (2, 0)
    assert [line.split()[0] for line in listed.splitlines()[:3]] == ["domain", "heat_diffusion", "rain"]
    assert "seed" in shown
    assert alike.splitlines()[1].split()[1] in ("plasma_physics", "rain")


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_the_commands_of_readme_take_the_rain_of_the_page_on_forecasts(
    stack: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(stack)
    exec(re.search(r"^import numpy.*?^np.savez[^\n]*", FORECASTS, re.MULTILINE | re.DOTALL)[0], {})
    lines = re.findall(r"^\$ nvp (.*)$", README, re.MULTILINE)
    commands = [command for line in lines for command in line.split(" && nvp ")]
    assert commands.pop(0).startswith("demo --data rain.npz:rain_mm_h")  # minutes; it splits as `atlas evaluate` does
    printed = [nvp(*shlex.split(command), folder=stack) for command in commands]
    assert "1 x 40 frames of 64x96 cells in mm/h" in printed[0]
    assert "lagrangian_increment" in printed[1]
    assert "frame 40 of rain.npz:rain_mm_h" in printed[2]


@pytest.mark.slow
def test_the_page_on_training_runs_as_it_stands(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    names, _ = run((ROOT / "docs" / "training.md").read_text(), tmp_path)
    assert names["trained"].bundle.config.beside == ("dt",)
    assert names["means"].shape == (4, 4, 32, 32)
    assert (names["soon"] != names["later"]).any()


def test_the_page_on_files_runs_as_it_stands(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    run((ROOT / "docs" / "files.md").read_text(), tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == {"sequences.nc", "sequences.zarr"}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_command_in_the_docs_exists_with_its_options(page: Path) -> None:
    root = typer.main.get_command(app)
    for line in COMMAND.findall(page.read_text()):
        words = re.split(r" &&|;|\s{2,}|, ", line)[0].split()[1:]
        command: Any = root
        while hasattr(command, "commands") and words and not words[0].startswith("-"):
            found = command.commands.get(words[0])
            assert found is not None, f"{page.name}: {line!r} names no command"
            command, words = found, words[1:]
        known = {option for parameter in command.params for option in parameter.opts}
        for word in words:
            assert not word.startswith("--") or word.split("=")[0] in known | {"--help"}, f"{page.name}: {line!r}"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_local_link_in_the_docs_leads_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\(([^)#]+)\)", page.read_text()):
        assert "://" in target or (page.parent / target).exists(), f"{page.name}: {target}"


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_the_page_on_extending_runs_as_it_stands_and_a_broken_package_ends_no_worker(
    stack: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(stack)
    names, _ = run((ROOT / "docs" / "extending.md").read_text(), stack)
    forecast, trained, made = (names[name] for name in ("forecast", "trained", "made"))
    assert "signatures, keys and rule hold" in capsys.readouterr().out
    assert set(forecast.models.values()) == {member.model_id for member in trained.members}
    assert 0 < forecast.energy.mj < 1000  # millijoules: nothing was compiled
    accounts = {one["account"]: one for one in json.loads(nvp("account", "list", "--json", folder=stack))}
    certified_mj = made.energy.mj + trained.energy.mj + forecast.energy.mj
    assert certified_mj <= accounts["plug"]["spent_mj"] < certified_mj + 100  # a vote that came later is paid as well
    assert "damped-waves 0.1" in nvp("lineage", trained.members[0].model_id, "--json", folder=stack)
    with SyncAgentClient.connect("plug") as client:
        with pytest.raises(PluginFailed, match=r"broken 1\.0 cannot be imported: ImportError: half installed"):
            client.train("heat_diffusion", data=made.dataset, model="broken", budget_j=40).result()
        with pytest.raises(UnknownName, match=r"brings 'nobodys' .* there are: broken, damped_waves"):
            client.train("heat_diffusion", data=made.dataset, model="nobodys", budget_j=40).result()
        waiting = client.train("heat_diffusion", data=made.dataset, model="damped_waves", budget_j=40, urgent=True)
        again = waiting.result()
    assert [one.model_id for one in again.members] == [one.model_id for one in trained.members]
