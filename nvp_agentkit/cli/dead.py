"""``nvp dead``: messages that no worker could use; look at them, send them round again, or drop them."""

from __future__ import annotations

import base64
import getpass
import socket
import sys
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated, Any

import typer

from nvp_agentkit.cli import deployment
from nvp_agentkit.cli.options import FAILED, AsJson, DataDir, say_json
from nvp_agentkit.cli.owner import at_stack
from nvp_agentkit.cli.screen import printable

if TYPE_CHECKING:
    from redis.asyncio import Redis

    from nvp_agentkit.settings import Settings
    from nvp_agentkit.streams.dead import DeadLetter, Handled

SHOWN = 2000  # characters of a field
Names = Annotated[
    list[str] | None, typer.Argument(help="Letters as `nvp dead list` names them.", metavar="[LETTER]...")
]
All = Annotated[bool, typer.Option("--all", help="All letters that the other options leave.")]
OfAccount = Annotated[str | None, typer.Option("--account", help="Only of this account.", metavar="NAME")]
OnStream = Annotated[str | None, typer.Option("--stream", help="Only of this stream, such as predict.", metavar="NAME")]
Reason = Annotated[str | None, typer.Option("--reason", help="Only those whose reason has this in it.", metavar="TEXT")]
app = typer.Typer(
    no_args_is_help=True,
    help="""Dead letters: messages that no worker could use.

    [dim]Example:[/dim] nvp dead list
    """,
)


@app.command("list")
def list_letters(
    limit: Annotated[int, typer.Option(help="Most letters shown, the newest.", metavar="N", min=1, max=1000)] = 10,
    account: OfAccount = None,
    stream: OnStream = None,
    done: Annotated[bool, typer.Option("--handled", help="What was replayed or dropped in the last 30 days.")] = False,
    data_dir: DataDir = None,
    as_json: AsJson = False,
) -> None:
    """Say how many dead letters there are, and show the newest.

    [dim]Example:[/dim] nvp dead list --stream predict
    """
    from nvp_agentkit.streams.dead import dead_letters, handled, heaps

    async def look(redis: Redis, _: Settings) -> tuple[dict[tuple[str, str], int], list[DeadLetter | Handled]]:
        counts = {place: n for place, n in (await heaps(redis)).items() if _wanted(place, account, stream)}
        newest: list[DeadLetter | Handled] = []
        if done:
            for one in await _accounts(redis, account):
                newest += [each for each in await handled(redis, one) if stream in (None, each.name.split("/")[1])]
        else:
            for place in counts:
                newest += await dead_letters(redis, *place, count=limit)
        return counts, sorted(newest, key=lambda one: -one.at_ms)[:limit]

    counts, newest = at_stack(deployment.settings_for(data_dir), look)
    if as_json:
        total = [{"account": of, "stream": on, "letters": n} for (of, on), n in counts.items()]
        shown = [asdict(one) if done else _plain(one) for one in newest]  # type: ignore[arg-type]
        say_json({"total": total, "handled" if done else "letters": shown})
        return
    _say_total(counts)
    if newest:
        _show(newest)
        if not done and sum(counts.values()) > len(newest):
            typer.echo(f"the newest {len(newest)}; --limit shows more, --account and --stream choose")


@app.command()
def show(
    letter: Annotated[str, typer.Argument(help="As `nvp dead list` names it.", metavar="LETTER")],
    raw: Annotated[bool, typer.Option("--raw", help="Only the message, byte for byte, to standard output.")] = False,
    data_dir: DataDir = None,
    as_json: AsJson = False,
) -> None:
    """Show one dead letter: why, when, who, and what was sent.

    [dim]Example:[/dim] nvp dead show ace-1/predict/1764188133000-0 --raw > event.json
    """
    from nvp_agentkit.errors import InvalidInput
    from nvp_agentkit.streams.dead import find

    async def look(redis: Redis, _: Settings) -> DeadLetter:
        return await find(redis, letter)

    found = at_stack(deployment.settings_for(data_dir), look)
    if raw:
        if b"event" not in found.raw:
            raise InvalidInput(f"{letter} has no field `event`, so no message; --json has all that it has")
        sys.stdout.buffer.write(found.raw[b"event"])
    elif as_json:
        say_json(_plain(found))
    else:
        _tell(found)


@app.command()
def replay(
    letters: Names = None,
    every: All = False,
    account: OfAccount = None,
    stream: OnStream = None,
    reason: Reason = None,
    data_dir: DataDir = None,
    as_json: AsJson = False,
) -> None:
    """Send dead letters round again, byte for byte.

    The group that gave a message up works on it again, under its own id, deadline and budget; the refusal that was
    its answer is taken back. Exit status 1 if any could not be replayed; those stay.

    [dim]Example:[/dim] nvp dead replay --all --stream predict --reason ComputeFailed
    """
    from nvp_agentkit.streams.dead import replay as replay_them

    async def send(redis: Redis, _: Settings) -> tuple[dict[str, str], dict[str, str]]:
        sent: dict[str, str] = {}
        refused: dict[str, str] = {}
        async for page in _chosen(redis, letters, every, account, stream, reason):
            for one, result in zip(page, await replay_them(redis, page, by=_who()), strict=True):
                if isinstance(result, str):
                    sent[one.name] = result
                else:
                    refused[one.name] = str(result)
        return sent, refused

    sent, refused = at_stack(deployment.settings_for(data_dir), send)
    if as_json:
        say_json({"replayed": sent, "refused": refused})
    else:
        typer.echo(f"{len(sent):,} replayed")
        _say_refused(refused)
    raise typer.Exit(FAILED if refused else 0)


@app.command()
def drop(
    letters: Names = None,
    every: All = False,
    account: OfAccount = None,
    stream: OnStream = None,
    reason: Reason = None,
    data_dir: DataDir = None,
    as_json: AsJson = False,
) -> None:
    """Remove dead letters for good.

    [dim]Example:[/dim] nvp dead drop ace-1/predict/1764188133000-0
    """
    from nvp_agentkit.streams.dead import drop as drop_them

    async def remove(redis: Redis, _: Settings) -> int:
        pages = _chosen(redis, letters, every, account, stream, reason)
        return sum([await drop_them(redis, page, by=_who()) async for page in pages])

    dropped = at_stack(deployment.settings_for(data_dir), remove)
    if as_json:
        say_json({"dropped": dropped})
        return
    typer.echo(f"{dropped:,} dropped")


async def _chosen(
    redis: Redis,
    letters: Sequence[str] | None,
    every: bool,
    account: str | None,
    stream: str | None,
    reason: str | None,
) -> AsyncIterator[list[DeadLetter]]:
    """The letters that were named, or all that the options leave, a page at a time."""
    from nvp_agentkit.errors import InvalidInput
    from nvp_agentkit.streams.dead import find, heaps, pages

    if bool(letters) == every or (letters and (account or stream or reason)):
        raise InvalidInput("name letters, or give --all with --account, --stream or --reason to choose among them")
    if letters:
        yield [await find(redis, name) for name in letters]
        return
    for place in await heaps(redis):
        if _wanted(place, account, stream):
            async for page in pages(redis, *place):
                yield [one for one in page if reason is None or reason in one.reason]


async def _accounts(redis: Redis, account: str | None) -> list[str]:
    from nvp_agentkit.streams.accounts import known

    return [account] if account else await known(redis)


def _wanted(place: tuple[str, str], account: str | None, stream: str | None) -> bool:
    return account in (None, place[0]) and stream in (None, place[1])


def _who() -> str:
    """Whom the record names."""
    return f"{getpass.getuser()}@{socket.gethostname()}"


def _plain(letter: DeadLetter) -> dict[str, Any]:
    """For JSON; bytes as base64, since names and values may be any."""
    raw = [{"name": _base64(name), "value": _base64(value)} for name, value in letter.raw.items()]
    return {"letter": letter.name} | asdict(letter) | {"raw": raw}


def _base64(raw: bytes) -> str:
    return base64.b64encode(raw).decode()


def _when(at_ms: int) -> str:
    return f"{datetime.fromtimestamp(at_ms / 1000, UTC).astimezone():%m-%d %H:%M:%S}"


def _say_total(counts: dict[tuple[str, str], int]) -> None:
    by_stream: Counter[str] = Counter()
    for (_, on), n in counts.items():
        by_stream[on] += n
    accounts = len({of for of, _ in counts})
    each = ", ".join(f"{n:,} of {on}" for on, n in by_stream.most_common())
    typer.echo(f"{by_stream.total():,} dead letters of {accounts} accounts: {each}" if counts else "no dead letter")


def _show(newest: Sequence[DeadLetter | Handled]) -> None:
    """Two lines a letter: which it is, never cut, and why, cut at the width."""
    from rich.text import Text

    from nvp_agentkit.cli.screen import console
    from nvp_agentkit.streams.dead import DeadLetter

    screen = console()
    for one in newest:
        what = f"{one.attempts}x {one.group}" if isinstance(one, DeadLetter) else f"{one.what} by {one.by}"
        reason = printable(one.reason).replace("\n", " ")
        screen.print(Text(f"{_when(one.at_ms)}  {one.name}  {what}"), soft_wrap=True)
        screen.print(Text(f"    {reason}", style="dim"), no_wrap=True, overflow="ellipsis")


def _tell(letter: DeadLetter) -> None:
    kept = sum(len(name) + len(value) for name, value in letter.raw.items())
    cut = f", of which {kept:,} were kept" if kept != letter.size else ""
    tries = f"{letter.attempts} attempt{'s' * (letter.attempts != 1)}"
    typer.echo(f"letter    {letter.name}\nentry     {letter.entry_id}\nreason    {printable(letter.reason)}")
    typer.echo(f"gave up   {letter.worker} of {letter.group}, after {tries}, {_when(letter.at_ms)}")
    typer.echo(f"told      {', '.join(letter.told) or 'nobody'}\nbytes     {letter.size:,}{cut}")
    for name, value in letter.raw.items():
        text = printable(value.decode(errors="backslashreplace"))
        more = f" ... {len(text) - SHOWN:,} more characters, --raw and --json have all" if len(text) > SHOWN else ""
        typer.echo(f"\n{printable(name.decode(errors='backslashreplace'))}:\n{text[:SHOWN]}{more}")


def _say_refused(refused: dict[str, str]) -> None:
    """One line a letter, or one a reason where that would be many lines."""
    if len(refused) <= 10:
        for why in refused.values():
            typer.echo(printable(why), err=True)
        return
    reasons = Counter(why.partition(": ")[2] for why in refused.values())
    for why, n in reasons.most_common(10):
        typer.echo(f"{n:,} not: {printable(why)}", err=True)
