"""What a person sees: lines that come alive on a terminal and are plain, one a fact, anywhere else."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.text import Text

if TYPE_CHECKING:
    from rich.progress import Progress

    from nvp_agentkit.embedded.stack import StackEvent

MARKS = {
    "ready": ("✓", "green"),
    "starting": ("…", "yellow"),
    "restarting": ("!", "red"),
    "draining": ("…", "yellow"),
    "missing": ("✗", "red"),
    "ended": ("·", "dim"),
}
PLAIN_WIDTH, TABLE_WIDTH = 120, 300


def console(*, stderr: bool = False) -> Console:
    """The terminal; where there is none, lines wide enough not to be broken."""
    made = Console(highlight=False, stderr=stderr)
    return made if made.is_terminal else Console(highlight=False, stderr=stderr, width=PLAIN_WIDTH)


def say(console: Console, words: str | Text) -> None:
    """Print ``words``, which are text and not markup: broken between words on a terminal, one line elsewhere."""
    console.print(Text(words) if isinstance(words, str) else words, soft_wrap=not console.is_terminal)


def printable(text: str) -> str:
    """``text`` with all that could steer a terminal written out: it may be an attacker's."""
    return "".join(one if one.isprintable() or one == "\n" else repr(one)[1:-1] for one in text)


def tabulate(console: Console, table: RenderableType) -> None:
    """Print ``table``; where nobody watches, no cell is cut for want of width."""
    if not console.is_terminal:
        console.width = TABLE_WIDTH
    console.print(table)


def alive(console: Console) -> bool:
    """True where lines may be drawn again in place."""
    return console.is_terminal and not console.is_dumb_terminal


def state_line(name: str, state: str, *said: str) -> Text:
    """One process: a mark, its name, its state, and what else there is to say, dimmed."""
    mark, style = MARKS.get(state, ("?", "red"))
    return Text.assemble(
        "   ", (mark, style), f" {name:<10} ", (f"{state:<10} ", style), ("  ".join(said).rstrip(), "dim")
    )


class Board:
    """One line a process, redrawn in place while shown on a terminal; else a line once it is ready or in trouble."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._lines: dict[str, tuple[str, str, float]] = {}
        self._live: Live | None = None
        self._since = time.monotonic()

    @contextmanager
    def shown(self) -> Iterator[None]:
        """Draw while inside."""
        if not alive(self._console):
            yield
            return
        with Live(self._render(), console=self._console, refresh_per_second=8) as self._live:
            yield
        self._live = None

    def __call__(self, event: StackEvent) -> None:
        if event.state == "ended":
            return
        self._lines[event.name] = (event.state, event.detail, time.monotonic() - self._since)
        if self._live is not None:
            self._live.update(self._render())
        elif event.state in ("ready", "restarting"):
            self._console.print(self._line(event.name))

    def _render(self) -> RenderableType:
        return Group(*(self._line(name) for name in self._lines))

    def _line(self, name: str) -> Text:
        state, detail, after_s = self._lines[name]
        return state_line(name, state, f"{after_s:6.1f} s", detail)


def progress_bar(console: Console) -> Progress:
    """A bar with one free text behind it; silent where nobody watches."""
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

    return Progress(
        TextColumn("   {task.description}"),
        BarColumn(bar_width=28),
        TextColumn("{task.fields[told]}"),
        TimeElapsedColumn(),
        console=console,
        disable=not alive(console),
    )
