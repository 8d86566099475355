"""``nvp account``: who may spend how many joules."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from nvp_agentkit.cli import deployment
from nvp_agentkit.cli.options import AsJson, DataDir, say_json
from nvp_agentkit.cli.owner import at_stack

if TYPE_CHECKING:
    from redis.asyncio import Redis

    from nvp_agentkit.energy.accounts import Balance
    from nvp_agentkit.settings import Settings

Name = Annotated[str, typer.Argument(help="1 to 63 of a-z, 0-9 and '-'.", metavar="NAME")]
app = typer.Typer(
    no_args_is_help=True,
    help="""Energy accounts: who may spend how many joules.

    [dim]Example:[/dim] nvp account list
    """,
)


@app.command()
def create(
    name: Name,
    limit_j: Annotated[float, typer.Option("--limit-j", help="Joules the account may spend.", metavar="J")] = 500.0,
    owner: Annotated[str, typer.Option(help="Who answers for it.", metavar="WHO")] = "me",
    data_dir: DataDir = None,
    as_json: AsJson = False,
) -> None:
    """Open an account, with streams and joules of its own.

    It gets a user of its own at the stream server; the login is kept in the data folder, where clients on this
    machine find it by themselves. An account that is there already keeps what it has.

    [dim]Example:[/dim] nvp account create ace-1 --limit-j 500
    """
    from nvp_agentkit.energy.accounts import joules
    from nvp_agentkit.messages.checks import millijoules

    limit_mj = millijoules(limit_j)

    async def opening(redis: Redis, at: Settings) -> deployment.Opened:
        return await deployment.open_account(redis, at, name, limit_mj=limit_mj, owner=owner)

    opened = at_stack(deployment.settings_for(data_dir), opening)
    balance = opened.balance
    if as_json:
        say_json(_plain(balance) | {"kept": opened.kept})
        return
    typer.echo(
        f"account {name}: limit {joules(balance.limit_mj)}, free {joules(balance.free_mj)}\n"
        f"AgentClient.connect(account={name!r}) uses it from here."
    )
    if balance.limit_mj != limit_mj:
        typer.echo(f"It was there already and keeps its limit; `nvp account top-up {name} J` raises it.")
    if not opened.kept:
        typer.echo("The stream server forgets this user at a restart: it has no `aclfile`.", err=True)


@app.command("list")
def list_accounts(data_dir: DataDir = None, as_json: AsJson = False) -> None:
    """List all accounts with their joules: limit, spent, reserved, free.

    [dim]Example:[/dim] nvp account list --json
    """
    from nvp_agentkit.energy.accounts import Balance
    from nvp_agentkit.energy.ledger import Ledger
    from nvp_agentkit.errors import UnknownAccount
    from nvp_agentkit.streams.accounts import known

    async def balance(ledger: Ledger, account: str) -> Balance:
        try:
            return await ledger.balance(account)
        except UnknownAccount:  # whoever opened it was stopped half way: there it is, without a joule
            return Balance(account, limit_mj=0, spent_mj=0, reserved_mj=0)

    async def look(redis: Redis, _: Settings) -> list[Balance]:
        return [await balance(Ledger(redis), account) for account in await known(redis)]

    balances = at_stack(deployment.settings_for(data_dir), look)
    if as_json:
        say_json([_plain(balance) for balance in balances])
    elif balances:
        _show(balances)
    else:
        typer.echo("no account yet; `nvp account create NAME` opens one")


@app.command("top-up", context_settings={"ignore_unknown_options": True})  # -10 is refused as an amount
def top_up(
    name: Name,
    add_j: Annotated[float, typer.Argument(help="Joules to add to the limit.", metavar="J")],
    data_dir: DataDir = None,
    as_json: AsJson = False,
) -> None:
    """Raise an account's limit.

    [dim]Example:[/dim] nvp account top-up ace-1 200
    """
    from nvp_agentkit.energy.accounts import joules
    from nvp_agentkit.energy.ledger import Ledger
    from nvp_agentkit.messages.checks import millijoules
    from nvp_agentkit.streams.accounts import require

    mj = millijoules(add_j)

    async def add(redis: Redis, _: Settings) -> Balance:
        await require(redis, name)
        return await Ledger(redis).top_up(name, mj)

    balance = at_stack(deployment.settings_for(data_dir), add)
    if as_json:
        say_json(_plain(balance))
        return
    typer.echo(f"account {name}: limit {joules(balance.limit_mj)}, free {joules(balance.free_mj)}")


@app.command()
def url(name: Name, data_dir: DataDir = None, as_json: AsJson = False) -> None:
    """Print what a Redis client in any language needs.

    It is the stream server's address with the account's user and password in it: keep it secret.

    [dim]Example:[/dim] NVP_REDIS_URL=$(nvp account url ace-1) node examples/node/forecast.mjs
    """
    from nvp_agentkit.client.place import find

    url = find(deployment.settings_for(data_dir), name).login_url()
    if as_json:
        say_json({"account": name, "url": url})
        return
    typer.echo(url)


def _show(balances: list[Balance]) -> None:
    from rich.table import Table

    from nvp_agentkit.cli.screen import console
    from nvp_agentkit.energy.accounts import joules

    table = Table(box=None, pad_edge=False, padding=(0, 3, 0, 0))
    table.add_column("account")
    for column in ("limit", "spent", "reserved", "free"):
        table.add_column(column, justify="right")
    for one in balances:
        table.add_row(one.account, *(joules(mj) for mj in (one.limit_mj, one.spent_mj, one.reserved_mj, one.free_mj)))
    console().print(table)


def _plain(balance: Balance) -> dict[str, Any]:
    return {
        "account": balance.account,
        "limit_mj": balance.limit_mj,
        "spent_mj": balance.spent_mj,
        "reserved_mj": balance.reserved_mj,
        "free_mj": balance.free_mj,
        "overdraft_mj": balance.overdraft_mj,
    }
