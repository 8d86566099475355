"""All commands, in groups, and what becomes of an error: one clear line and an exit status.

Exit status: 0 done; 1 refused or failed, the line says why; 2 wrong usage; 130 interrupted.
"""

from __future__ import annotations

import sys

import typer
from rich.console import Console
from rich.markup import escape

from nvp_agentkit import __version__
from nvp_agentkit.cli import accounts, demo, inspect, stack
from nvp_agentkit.errors import NvpError

INTERRUPTED = 130

app = typer.Typer(
    name="nvp",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
    help="Forecasts of 2-D energy fields that agents can pay for, check and trace.",
)
RUN, ASK, KEEP = "Run a stack", "Look and check", "Accounts"
app.command("demo", rich_help_panel=RUN)(demo.command)
app.command("up", rich_help_panel=RUN)(stack.up)
app.command("down", rich_help_panel=RUN)(stack.down)
app.command("status", rich_help_panel=RUN)(stack.status)
app.command("worker", rich_help_panel=RUN)(stack.worker)
app.command("keys", rich_help_panel=RUN)(stack.keys)
app.command("verify", rich_help_panel=ASK)(inspect.verify_certificate)
app.command("lineage", rich_help_panel=ASK)(inspect.lineage)
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
    """Forecasts of 2-D energy fields that agents can pay for, check and trace."""


def run() -> None:
    """Parse, run, and turn errors into words."""
    try:
        app()
    except NvpError as error:
        Console(stderr=True, highlight=False).print(f"[bold red]{error.code}[/]: {escape(str(error))}", soft_wrap=True)
        sys.exit(1)
    except KeyboardInterrupt:
        sys.exit(INTERRUPTED)
