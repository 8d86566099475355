"""One look as a picture of text: four tables that share the height there is."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from nvp_agentkit.cli.screen import MARKS, printable
from nvp_agentkit.cli.top.look import Queue, Seen

UNWATCHED_ROWS = 20  # of each table, where there is no screen that they must fit on
AROUND = 9  # lines that are no rows: one above all, a heading a table, an empty line between two, one below
BAR = 10


@dataclass
class Section:
    """One table; columns that begin with ``>`` are numbers, the last is as wide as there is room."""

    columns: Sequence[str]
    rows: list[tuple[Text | str, ...]] = field(default_factory=list)

    def table(self, most: int) -> Table:
        table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold", expand=True)
        for column in self.columns:
            last = column is self.columns[-1]
            table.add_column(
                column.lstrip(">"),
                justify="right" if column.startswith(">") else "left",
                no_wrap=True,
                overflow="ellipsis",
                ratio=1 if last else None,
            )
        shown = self.rows if len(self.rows) <= most else self.rows[: max(most - 1, 0)]
        for row in shown:
            table.add_row(*(Text(cell) if isinstance(cell, str) else cell for cell in row))
        if len(shown) < len(self.rows):
            table.add_row(Text(f"{len(self.rows) - len(shown)} more", style="dim"))
        return table


def frame(seen: Seen, before: Seen | None, *, title: str, height: int | None, trouble: str = "") -> RenderableType:
    """The picture. ``before`` is an earlier look, for what happened since; ``height`` in lines, None for no limit."""
    since_s = seen.at_s - before.at_s if before else 0.0
    sections = [
        _workers(seen),
        _streams(seen, before, since_s),
        *([_jobs(seen)] if seen.jobs else []),
        *([_accounts(seen, before, since_s)] if seen.balances else []),
    ]
    room = (
        [UNWATCHED_ROWS] * len(sections) if height is None else shares([len(s.rows) for s in sections], height - AROUND)
    )
    state = Text(trouble, style="red") if trouble else _state(seen)
    head = Text.assemble((title, "bold"), f"  {datetime.now(UTC).astimezone():%H:%M:%S}  ", state)
    head.no_wrap, head.overflow = True, "ellipsis"
    parts: list[RenderableType] = [head]
    for section, most in zip(sections, room, strict=True):
        parts += [Text(), section.table(most)]
    return Group(*parts)


def shares(wanted: Sequence[int], room: int) -> list[int]:
    """``room`` among tables that want so many rows: the small ones get all they want, the others the same."""
    given = [0] * len(wanted)
    for place in sorted(range(len(wanted)), key=lambda place: wanted[place]):
        left = len(wanted) - sum(1 for one in given if one)
        given[place] = min(wanted[place], max(1, room // max(left, 1)))
        room -= given[place]
    return given


def _state(seen: Seen) -> Text:
    ready = sum(one.state == "ready" for one in seen.workers)
    waiting = sum(queue.waiting for queue in seen.queues)
    dead = sum({queue.stream: queue.dead for queue in seen.queues}.values())
    text = Text(f"{ready} of {len(seen.workers) + len(seen.missing)} workers ready, {waiting:,} waiting")
    return text.append(f", {dead:,} dead", style="red") if dead else text


def _workers(seen: Seen) -> Section:
    section = Section(("worker", "state", ">pid", "instance", "says"))
    for one in seen.workers:
        mark, style = MARKS.get(one.state, ("?", "red"))
        state = Text.assemble((f"{mark} {one.state}", style))
        late = f"silent for {one.age_s:.0f} s " if one.age_s > 5 else ""
        section.rows.append((one.name, state, str(one.pid), one.instance, printable(late + one.detail)))
    for name in seen.missing:
        mark, style = MARKS["missing"]
        section.rows.append((name, Text(f"{mark} missing", style=style), "", "", f"nvp logs {name}"))
    return section


def _streams(seen: Seen, before: Seen | None, since_s: float) -> Section:
    earlier = {(one.stream, one.group): one.read for one in before.queues} if before else {}
    section = Section(("stream", "group", ">waiting", ">in hand", ">oldest", ">per s", ">dead", "busiest"))
    for one in sorted(seen.queues, key=lambda queue: -queue.waiting):
        section.rows.append(
            (
                one.stream,
                one.group,
                _number(one.waiting, "yellow"),
                _number(one.in_hand),
                _age(one),
                _rate(one.read - earlier.get((one.stream, one.group), one.read), since_s),
                _number(one.dead, "red"),
                one.busiest,
            )
        )
    return section


def _jobs(seen: Seen) -> Section:
    section = Section(("job", "account", "phase", ">used J", ">of J", ""))
    for job in seen.jobs:
        done = min(job.used_mj / job.granted_mj, 1.0) if job.granted_mj else 0.0
        bar = Text.assemble(("━" * round(BAR * done), "green"), ("─" * (BAR - round(BAR * done)), "dim"))
        used, granted = _joules(job.used_mj), _joules(job.granted_mj)
        section.rows.append((printable(job.job_id)[:8], job.account, printable(job.phase), used, granted, bar))
    return section


def _accounts(seen: Seen, before: Seen | None, since_s: float) -> Section:
    earlier = {one.account: one.spent_mj for one in before.balances} if before else {}
    section = Section(("account", ">limit J", ">spent J", ">reserved J", ">free J", ">W", ""))
    for one in sorted(seen.balances, key=lambda balance: (-balance.reserved_mj, -balance.spent_mj)):
        watts = _rate((one.spent_mj - earlier.get(one.account, one.spent_mj)) / 1000, since_s)
        amounts = (one.limit_mj, one.spent_mj, one.reserved_mj, one.free_mj)
        section.rows.append((one.account, *map(_joules, amounts), watts, ""))
    return section


def _joules(mj: int) -> str:
    return f"{mj / 1000:,.1f}"


def _number(value: int, style: str = "") -> Text:
    return Text(f"{value:,}", style=style if value else "dim")


def _age(queue: Queue) -> Text:
    """Of the oldest entry; of one that is all read it is how long work takes."""
    return Text(f"{queue.oldest_s:,.1f} s" if queue.oldest_s else "", style="yellow" if queue.oldest_s > 60 else "")


def _rate(amount: float, since_s: float) -> Text:
    return Text(f"{amount / since_s:,.1f}", style="" if amount else "dim") if since_s else Text("")
