"""All commands, in groups, and what becomes of an error: one clear line and an exit status.

A command's module imports what it needs when it runs, so that help and completion come at once.
"""

from __future__ import annotations

import io
import re
import sys
from inspect import cleandoc
from typing import NoReturn

import typer
from rich.text import Text
from typer.core import TyperCommand, TyperGroup, TyperOption
from typer.exceptions import TyperException

from nvp_agentkit import __version__
from nvp_agentkit.cli import (
    accounts,
    atlas,
    dead,
    demo,
    doctor,
    evaluate,
    hindcast,
    inspect,
    jobs,
    logs,
    model,
    models,
    predict,
    stack,
    top,
    train,
)
from nvp_agentkit.cli.options import FAILED, STATUSES, USAGE, say_json
from nvp_agentkit.cli.screen import console, say
from nvp_agentkit.errors import NvpError

ARGUMENT = re.compile(  # `budget_j`, budget_j=5.0, model='trivial'
    r"`(?P<named>budget_j|dt_s|dx_m|units|members|share|force)`|\b(?P<given>budget_j|dt_s|dx_m)=(?=[\d-])"
    r"|\b(?P<chosen>model|assurance)='(?P<word>\w+)'"
)
SINGLE_BREAK = re.compile(r"(?<!\n)\n(?!\n)")
HELP = """Forecasts of 2-D energy fields that agents can pay for, check and trace.

New here? [bold]nvp demo[/] shows the whole path; [bold]nvp doctor[/] says what is missing or broken.

[dim]Example:[/dim] nvp demo
"""
EPILOG = "Exit status: " + ", ".join(f"{status} {meaning}" for status, meaning in STATUSES.items()) + "."

app = typer.Typer(
    name="nvp",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
    help=HELP,
    epilog=EPILOG,
    context_settings={"help_option_names": ["--help", "-h"]},
)
START, RUN, ASK, DATA, KEEP = "Start here", "Run a stack", "Ask and check", "Data and models", "Accounts"
app.command("demo", rich_help_panel=START)(demo.command)
app.command("doctor", rich_help_panel=START)(doctor.command)
app.command("train", rich_help_panel=START)(train.command)
app.command("up", rich_help_panel=RUN)(stack.up)
app.command("status", rich_help_panel=RUN)(stack.status)
app.command("top", rich_help_panel=RUN)(top.command)
app.command("logs", rich_help_panel=RUN)(logs.command)
app.command("down", rich_help_panel=RUN)(stack.down)
app.add_typer(jobs.app, name="jobs", rich_help_panel=RUN)
app.add_typer(dead.app, name="dead", rich_help_panel=RUN)
app.command("worker", rich_help_panel=RUN)(stack.worker)
app.command("keys", rich_help_panel=RUN)(stack.keys)
app.command("predict", rich_help_panel=ASK)(predict.command)
app.command("hindcast", rich_help_panel=ASK)(hindcast.command)
app.command("evaluate", rich_help_panel=ASK)(evaluate.command)
app.command("verify", rich_help_panel=ASK)(inspect.verify_certificate)
app.command("lineage", rich_help_panel=ASK)(inspect.lineage)
app.add_typer(atlas.app, name="atlas", rich_help_panel=DATA)
app.add_typer(model.app, name="model", rich_help_panel=DATA)
app.add_typer(models.app, name="models", rich_help_panel=DATA)
app.add_typer(accounts.app, name="account", rich_help_panel=KEEP)


def _version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"nvp {__version__}")
        raise typer.Exit


@app.callback()
def _root(
    version: bool = typer.Option(
        False, "--version", callback=_version, is_eager=True, help="Say which version this is."
    ),
) -> None:
    pass


def command_line() -> TyperGroup:
    """The commands as one tree: paragraphs of help flow, and a flag, which takes no value, shows no type."""
    root = typer.main.get_command(app)
    assert isinstance(root, TyperGroup)
    _polish(root, None)
    return root


def _polish(command: TyperCommand | TyperGroup, parent: typer.Context | None) -> None:
    command.help = SINGLE_BREAK.sub(" ", cleandoc(command.help or ""))
    context = typer.Context(command, parent=parent, **command.context_settings)
    for parameter in command.get_params(context):
        if isinstance(parameter, TyperOption) and parameter.is_flag:
            parameter.metavar = ""
    for child in command.commands.values() if isinstance(command, TyperGroup) else ():
        if isinstance(child, TyperCommand | TyperGroup):
            _polish(child, context)


def run() -> None:
    """Parse, run, and turn errors into words; with ``--json`` into one document on standard output."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")  # a terminal that has no check mark gets a question mark
    as_json = "--json" in sys.argv[1:]
    try:
        # typer itself prints what is wrong with the usage, in its way, unless it is told to stand back.
        sys.exit(command_line()(prog_name="nvp", standalone_mode=not as_json))
    except TyperException as error:
        _fail("usage", error.format_message(), USAGE, as_json=as_json)
    except NvpError as error:
        _fail(error.code, str(error), FAILED, as_json=as_json)
    except OSError as error:
        where = f"{error.filename}: " if error.filename else ""
        _fail("system", f"{where}{error.strerror or error}; `nvp doctor` tells more", FAILED, as_json=as_json)


def _fail(code: str, detail: str, status: int, *, as_json: bool) -> NoReturn:
    if as_json:
        say_json({"error": code, "detail": detail})
    else:
        words = Text.assemble((code, "bold red"), ": ", ARGUMENT.sub(_option, detail))
        say(console(stderr=True), words)
    sys.exit(status)


def _option(argument: re.Match[str]) -> str:
    """What stands for an argument of the Python client here."""
    if argument["chosen"]:
        return f"--{argument['chosen']} {argument['word']}"
    name = (argument["named"] or argument["given"]).replace("_", "-")
    return f"`--{name}`" if argument["named"] else f"--{name}="
