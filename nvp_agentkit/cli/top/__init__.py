"""``nvp top``: the stack at work, drawn again and again."""

from __future__ import annotations

import asyncio
import os
from typing import TYPE_CHECKING, Annotated

import typer

from nvp_agentkit.cli import deployment
from nvp_agentkit.cli.options import AsJson, DataDir, say_json
from nvp_agentkit.cli.owner import at_stack

if TYPE_CHECKING:
    from redis.asyncio import Redis
    from rich.console import Console

    from nvp_agentkit.settings import Settings


def command(
    every_s: Annotated[
        float, typer.Option("--every", help="Seconds between two looks.", metavar="S", min=0.2, max=3600)
    ] = 1.0,
    once: Annotated[bool, typer.Option("--once", help="Print what is now, and end.")] = False,
    data_dir: DataDir = None,
    as_json: AsJson = False,
) -> None:
    """Watch the stack at work: workers, streams, jobs, joules.

    Ctrl-C ends it. Where standard output is no terminal, it is one look, as with --once and --json.

    [dim]Example:[/dim] nvp top --every 5
    """
    from nvp_agentkit.cli.screen import alive, console
    from nvp_agentkit.cli.top.look import look

    screen = console()

    async def watch(redis: Redis, settings: Settings) -> None:
        if as_json:
            say_json((await look(redis)).as_json())
        elif once or not alive(screen):
            from nvp_agentkit.cli.top.frame import frame

            screen.print(frame(await look(redis), None, title=_title(settings), height=None))
        else:
            await _live(redis, screen, _title(settings), every_s)

    at_stack(deployment.settings_for(data_dir), watch)


async def _live(redis: Redis, screen: Console, title: str, every_s: float) -> None:
    """Draw on a screen of its own, which is gone at the end: the terminal is as it was, whatever ends this."""
    from redis.exceptions import RedisError
    from rich.live import Live

    from nvp_agentkit.cli.top.frame import frame
    from nvp_agentkit.cli.top.look import look
    from nvp_agentkit.embedded.supervisor import ends_on_signal

    seen, before, trouble = await look(redis), None, ""
    with ends_on_signal(), Live(console=screen, screen=True, auto_refresh=False) as live:
        while True:
            live.update(frame(seen, before, title=title, height=screen.height, trouble=trouble), refresh=True)
            await asyncio.sleep(every_s)
            try:
                seen, before, trouble = await look(redis), seen, ""
            except (RedisError, OSError) as error:  # it may come back
                before, trouble = None, f"the stream server does not answer: {error}"


def _title(settings: Settings) -> str:
    """Where we look, in few words."""
    if settings.redis_url and not (settings.data_dir / "stack.json").exists():
        return f"nvp top  {settings.redis_url.rpartition('@')[2]}"
    return f"nvp top  {os.path.relpath(settings.data_dir)}"
