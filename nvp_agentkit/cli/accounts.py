"""``nvp account``: who may spend how many joules."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from typing import Annotated, TypeVar

import typer
from redis.asyncio import Redis

from nvp_agentkit.cli import deployment
from nvp_agentkit.cli.stack import AsJson, DataDir
from nvp_agentkit.client.place import find
from nvp_agentkit.energy.accounts import Balance, joules
from nvp_agentkit.energy.ledger import Ledger
from nvp_agentkit.messages.checks import millijoules
from nvp_agentkit.settings import Settings
from nvp_agentkit.streams.accounts import known, require
from nvp_agentkit.streams.connect import connect

T = TypeVar("T")
Name = Annotated[str, typer.Argument(help="1 to 63 of a-z, 0-9 and '-'")]
app = typer.Typer(no_args_is_help=True, help="Energy accounts: who may spend how many joules.")


def _at_stack(settings: Settings, work: Callable[[Redis, Settings], Awaitable[T]]) -> T:
    """Run ``work`` with the owner's own connection to the running stack."""
    place = find(settings.model_copy(update={"account": None}))

    async def run() -> T:
        redis = await connect(place.settings)
        try:
            return await work(redis, place.settings)
        finally:
            await redis.aclose()

    return asyncio.run(run())


@app.command()
def create(
    name: Name,
    limit_j: Annotated[float, typer.Option("--limit-j", help="Joules the account may spend.")] = 500.0,
    owner: Annotated[str, typer.Option(help="Who answers for it.")] = "me",
    data_dir: DataDir = None,
) -> None:
    """Open an account: its streams, its joules, a user of its own at the stream server.

    [dim]Example:[/dim] nvp account create ace-1 --limit-j 500
    """
    limit_mj = millijoules(limit_j)
    settings = deployment.settings_for(data_dir)
    opened = _at_stack(
        settings, lambda redis, at: deployment.open_account(redis, at, name, limit_mj=limit_mj, owner=owner)
    )
    balance = opened.balance
    typer.echo(
        f"account {name}: limit {joules(balance.limit_mj)}, free {joules(balance.free_mj)}; "
        f"AgentClient.connect(account={name!r}) uses it from here"
    )
    if balance.limit_mj != limit_mj:
        typer.echo(f"It was there already and keeps its limit; `nvp account top-up {name} J` raises it.")
    if not opened.kept:
        typer.echo("The stream server forgets this user at a restart: it has no `aclfile`.", err=True)


@app.command("list")
def list_accounts(data_dir: DataDir = None, as_json: AsJson = False) -> None:
    """All accounts with limit, spent, reserved and free joules.

    [dim]Example:[/dim] nvp account list --json
    """

    async def look(redis: Redis, _: Settings) -> list[Balance]:
        ledger = Ledger(redis)
        return [await ledger.balance(account) for account in await known(redis)]

    balances = _at_stack(deployment.settings_for(data_dir), look)
    if as_json:
        typer.echo(json.dumps([_plain(balance) for balance in balances]))
        return
    for balance in balances:
        typer.echo(
            f"{balance.account:<24} limit {joules(balance.limit_mj):>12}  spent {joules(balance.spent_mj):>12}  "
            f"reserved {joules(balance.reserved_mj):>12}  free {joules(balance.free_mj):>12}"
        )


@app.command("top-up")
def top_up(
    name: Name,
    add_j: Annotated[float, typer.Argument(help="Joules to add to the limit.")],
    data_dir: DataDir = None,
) -> None:
    """Raise an account's limit.

    [dim]Example:[/dim] nvp account top-up ace-1 200
    """
    mj = millijoules(add_j)

    async def add(redis: Redis, _: Settings) -> Balance:
        await require(redis, name)
        return await Ledger(redis).top_up(name, mj)

    balance = _at_stack(deployment.settings_for(data_dir), add)
    typer.echo(f"account {name}: limit {joules(balance.limit_mj)}, free {joules(balance.free_mj)}")


def _plain(balance: Balance) -> dict[str, str | int]:
    return {
        "account": balance.account,
        "limit_mj": balance.limit_mj,
        "spent_mj": balance.spent_mj,
        "reserved_mj": balance.reserved_mj,
        "free_mj": balance.free_mj,
        "overdraft_mj": balance.overdraft_mj,
    }
