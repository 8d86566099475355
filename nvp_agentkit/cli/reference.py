"""The page of all commands, written from the commands: ``python -m nvp_agentkit.cli.reference > docs/cli.md``."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import typer
from rich.text import Text
from typer.core import TyperArgument, TyperCommand, TyperGroup, TyperOption

from nvp_agentkit.cli.app import command_line
from nvp_agentkit.cli.options import STATUSES
from nvp_agentkit.settings import Settings

HEAD = """\
# The command line

Written from the code by `make docs`; a test fails while it is not what the code says.

`nvp --help` lists the commands, `nvp COMMAND --help` explains one; `python -m nvp_agentkit.cli` is the same program.

## What holds for every command

| exit status | meaning |
|---|---|
{statuses}

**For programs**: with `--json` standard output carries one JSON document and nothing else, the result or, with a
status other than 0, `{{"error": CODE, "detail": TEXT}}`; progress goes to standard error. Only `nvp logs` and
`nvp up --foreground` write several: one object a line. Joules are whole millijoules, in names that end in `_mj`.
An error's code is stable, its text names value, limit and remedy. An interrupted command (130) may end without
a document.

**On a terminal** bars move and lines are drawn again in place; into a file or a pipe goes one plain line a fact.
`NO_COLOR=1` turns colours off.

**Completion** of commands, options, workers and logs: `nvp --install-completion` writes it into your shell's own
configuration (bash, zsh, fish); `nvp --show-completion` prints it for you to place.

**Where things are** is said by variables. An option wins over its variable.

| variable | default | meaning |
|---|---|---|
{variables}
"""


def page() -> str:
    """The whole page, Markdown."""
    root = command_line()
    parts = [HEAD.format(statuses=_statuses(), variables=_variables())]
    for names, command in commands(root):
        parts += _section(names, command)
    return "\n".join(parts)


def commands(group: TyperGroup, *names: str) -> Iterator[tuple[list[str], TyperCommand | TyperGroup]]:
    """Every command and group below ``group`` with the words that call it, in the order of the help."""
    for name, command in group.commands.items():
        assert isinstance(command, TyperCommand | TyperGroup)
        yield ["nvp", *names, name], command
        if isinstance(command, TyperGroup):
            yield from commands(command, *names, name)


def parameters(command: TyperCommand | TyperGroup) -> list[TyperArgument | TyperOption]:
    """A command's arguments and options, without ``--help``."""
    return [one for one in command.params if isinstance(one, TyperArgument | TyperOption)]


def _section(names: list[str], command: TyperCommand | TyperGroup) -> Iterator[str]:
    yield f"## {' '.join(names)}\n"
    if isinstance(command, TyperCommand):
        yield f"`{' '.join([*names, *_usage(command)])}`\n"
    for paragraph in plain(command.help or "").split("\n\n"):
        label, colon, examples = paragraph.partition(": ")
        if colon and label in ("Example", "Examples"):
            yield "\n".join(f"    {example}" for example in examples.split("  ·  ")) + "\n"
        else:
            yield paragraph + "\n"
    if rows := [_row(one) for one in parameters(command)]:
        yield "| | | default |\n|---|---|---|\n" + "\n".join(rows) + "\n"


def plain(markup: str) -> str:
    """Help as it reads on a terminal without colours."""
    return Text.from_markup(markup).plain.strip()


def _usage(command: TyperCommand) -> Iterator[str]:
    if any(isinstance(one, TyperOption) for one in parameters(command)):
        yield "[OPTIONS]"
    for one in parameters(command):
        if isinstance(one, TyperArgument):
            yield _metavar(one) if one.required else f"[{_metavar(one)}]"


def _row(one: TyperArgument | TyperOption) -> str:
    if isinstance(one, TyperArgument):
        shown = f"`{_metavar(one)}`"
    else:
        names = sorted(one.opts, key=len)
        shown = f"`{', '.join(names)}{'' if one.is_flag else ' ' + _metavar(one)}`"
    span = f" {one.min} to {one.max}." if one.min is not None and one.max is not None else ""
    return f"| {shown} | {plain(one.help or '')}{span} | {_default(one)} |"


def _metavar(one: TyperArgument | TyperOption) -> str:
    if one.metavar:
        return one.metavar
    choices = one.type_descriptor.choices
    return "\\|".join(str(choice) for choice in choices) if choices else (one.name or "").upper()


def _default(one: TyperArgument | TyperOption) -> str:
    if one.required:
        return "needed"
    if isinstance(one.show_default, str):
        return one.show_default
    flag = isinstance(one, TyperOption) and one.is_flag
    return "" if flag or one.default is None else f"`{one.default}`"


def _statuses() -> str:
    return "\n".join(f"| {status} | {meaning} |" for status, meaning in STATUSES.items())


def _variables() -> str:
    rows = []
    for name, field in Settings.model_fields.items():
        default: Any = field.get_default()
        shown = "" if default is None or field.default_factory else f"`{default}`"
        rows.append(f"| `NVP_{name.upper()}` | {shown} | {field.description} |")
    return "\n".join(rows)


if __name__ == "__main__":
    typer.echo(page(), nl=False)
