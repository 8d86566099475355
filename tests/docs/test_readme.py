"""README is true: its Python runs as it stands, on a stack started as it says; its commands and links exist."""

from __future__ import annotations

import ast
import asyncio
import re
import subprocess
import sys
from collections.abc import Iterator
from inspect import CO_COROUTINE
from pathlib import Path
from typing import Any

import pytest
import typer

from nvp_agentkit.cli.app import app

ROOT = Path(__file__).resolve().parents[2]
README = (ROOT / "README.md").read_text()
PAGES = sorted([ROOT / "README.md", ROOT / "CONTRIBUTING.md", *(ROOT / "docs").rglob("*.md")])
BLOCK = re.compile(r"^```(\w+)\n(.*?)^```", re.MULTILINE | re.DOTALL)
COMMAND = re.compile(r"(?:^\$ |^ {3,4}|`)(nvp [a-z][^`\n]*)", re.MULTILINE)


def nvp(*arguments: str, folder: Path) -> str:
    done = subprocess.run(
        [sys.executable, "-m", "nvp_agentkit.cli", *arguments], cwd=folder, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr + done.stdout
    return done.stdout


@pytest.fixture
def stack(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, compile_cache: Path) -> Iterator[Path]:
    """What README asks for before its Python: `nvp up` and an account, in a folder of their own."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / ".nvp").mkdir()
    (tmp_path / ".nvp" / "compile-cache").symlink_to(compile_cache)
    nvp("up", folder=tmp_path)
    try:
        nvp("account", "create", "ace-1", "--limit-j", "500", folder=tmp_path)
        assert "ready" in nvp("status", folder=tmp_path)
        yield tmp_path
    finally:
        nvp("down", folder=tmp_path)


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_the_python_of_readme_runs_as_it_stands(stack: Path, capsys: pytest.CaptureFixture[str]) -> None:
    names: dict[str, Any] = {}
    for language, source in BLOCK.findall(README):
        if language != "python":
            continue
        code = compile(source, "README.md", "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
        if code.co_flags & CO_COROUTINE:
            asyncio.run(eval(code, names))
        else:
            exec(code, names)
    said = capsys.readouterr().out
    assert "recomputed=True" in said
    assert "1,000,000.0 J asked" in said
    assert names["forecast"].mean.shape == names["field"].shape[-2:]


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
