"""Every command and option is documented, in the help and on the page that is written from it."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import typer
from typer.core import TyperCommand, TyperGroup, TyperOption

from nvp_agentkit.cli.app import app, command_line
from nvp_agentkit.cli.options import STATUSES
from nvp_agentkit.cli.reference import commands, page, parameters, plain

PAGE = Path(__file__).resolve().parents[2] / "docs" / "cli.md"
ROOT = command_line()
ALL = [(" ".join(names), command) for names, command in commands(ROOT)]
BECOMES_ANOTHER_PROGRAM = {"nvp worker"}
each_command = pytest.mark.parametrize("command", [command for _, command in ALL], ids=[name for name, _ in ALL])


def test_the_page_of_commands_is_what_the_code_says() -> None:
    assert PAGE.read_text() == page(), "docs/cli.md is stale: run `make docs`"


def test_the_page_names_every_command_and_option() -> None:
    assert len(ALL) > 12
    text = PAGE.read_text()
    for name, command in ALL:
        assert f"## {name}\n" in text
        section = text.partition(f"## {name}\n")[2].partition("\n## ")[0]
        for parameter in parameters(command):
            if isinstance(parameter, TyperOption):
                assert max(parameter.opts, key=len) in section


def test_every_command_that_a_text_of_ours_names_is_one() -> None:
    known = {name.split()[1] for name, _ in ALL}
    repository = PAGE.parents[1]
    texts = [*repository.glob("*.md"), *repository.glob("docs/**/*.md"), *repository.glob("workers/**/*.py"),
             *repository.glob("nvp_agentkit/**/*.py")]  # fmt: skip
    named = {(word, path.name) for path in texts for word in re.findall(r"`nvp ([a-z]+)", path.read_text())}
    assert len(named) > 30
    assert [(word, where) for word, where in named if word not in known] == []


@each_command
def test_a_command_says_in_one_line_what_it_does(command: TyperCommand | TyperGroup) -> None:
    summary = plain(command.help or "").split("\n\n")[0]
    assert 0 < len(summary) <= 66, "one line of `nvp --help` at 80 columns"
    assert summary.endswith((".", "?"))


@each_command
def test_a_command_has_an_example_of_itself(command: TyperCommand | TyperGroup) -> None:
    examples = [paragraph for paragraph in plain(command.help or "").split("\n\n") if paragraph.startswith("Example")]
    assert len(examples) == 1
    assert f"{command.name}" in examples[0]


@each_command
def test_an_option_says_what_it_is_for(command: TyperCommand | TyperGroup) -> None:
    silent = [parameter.name for parameter in parameters(command) if not parameter.help]
    assert silent == []


@pytest.mark.parametrize("name", [name for name, command in ALL if not isinstance(command, TyperGroup)])
def test_a_command_that_prints_can_print_json(name: str) -> None:
    if name not in BECOMES_ANOTHER_PROGRAM:
        assert any("--json" in parameter.opts for parameter in parameters(dict(ALL)[name]))


def test_the_help_has_groups_and_exit_statuses(nvp) -> None:
    done = nvp("--help")
    assert done.status == 0
    for heading in ("Start here", "Run a stack", "Ask and check", "Accounts"):
        assert f" {heading} " in done.out
    for status, meaning in STATUSES.items():
        assert f"{status} {meaning}" in " ".join(done.out.split())


def test_a_flag_is_not_shown_as_if_it_took_a_value(nvp) -> None:
    assert "<bool>" not in nvp("status", "--help").out


def test_what_is_undocumented_would_be_seen() -> None:
    @app.command("undocumented")
    def undocumented(quiet: bool = False) -> None:
        pass

    try:
        command = command_line().commands["undocumented"]
        assert isinstance(command, TyperCommand)
        with pytest.raises(AssertionError):
            test_the_page_of_commands_is_what_the_code_says()
        with pytest.raises(AssertionError):
            test_a_command_has_an_example_of_itself(command)
        with pytest.raises(AssertionError):
            test_an_option_says_what_it_is_for(command)
    finally:
        app.registered_commands[:] = [one for one in app.registered_commands if one.name != "undocumented"]
    assert typer.main.get_command(app).name == "nvp"
