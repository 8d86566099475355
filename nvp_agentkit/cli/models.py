"""``nvp models``: which ensembles serve, and letting another one."""

from __future__ import annotations

import re
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from nvp_agentkit.cli import deployment
from nvp_agentkit.cli.options import AsJson, DataDir, say_json

if TYPE_CHECKING:
    from nvp_agentkit.client import SyncAgentClient
    from nvp_agentkit.ensemble.service import Service
    from nvp_agentkit.messages import ServiceChanged

app = typer.Typer(
    no_args_is_help=True,
    help="""Ensembles in service: who answers, who did, and why.

    [dim]Example:[/dim] nvp models list plasma_physics
    """,
)
DIGEST = re.compile(r"(sha256:[0-9a-f]{12})[0-9a-f]{52}")  # in a reason, shortened as beside it
Domain = Annotated[str, typer.Argument(help="What the fields are of.", metavar="DOMAIN")]
Account = Annotated[
    str | None, typer.Option(help="Whose.", metavar="NAME", show_default="NVP_ACCOUNT, else the only one here")
]
Force = Annotated[
    bool,
    typer.Option("--force", help="Also if it errs more, was never compared, or is not compiled yet; on record."),
]
Reason = Annotated[str | None, typer.Option(help="Why, for the graph.", metavar="TEXT")]


@app.command("list")
def list_models(
    domain: Annotated[
        str | None, typer.Argument(help="What the fields are of.", metavar="[DOMAIN]", show_default="all")
    ] = None,
    account: Account = None,
    data_dir: DataDir = None,
    as_json: AsJson = False,
) -> None:
    """Show who serves, who did, and every change with its reason.

    [dim]Example:[/dim] nvp models list plasma_physics --json
    """
    with _client(account, data_dir) as nvp:
        found = {one: nvp.models(one) for one in (nvp.domains() if domain is None else [domain])}
    if as_json:
        say_json({one: _document(service) for one, service in found.items()})
        return
    for one, service in found.items():
        for line in _lines(one, service):
            typer.echo(line)
    if not found:
        typer.echo("nothing serves; train an ensemble first")


@app.command()
def promote(
    domain: Domain,
    model: Annotated[
        str, typer.Argument(help="@challenger, @previous, an ensemble's digest, its champion's id.", metavar="MODEL")
    ] = "@challenger",
    share: Annotated[
        float | None,
        typer.Option(help="Let it answer this share of the requests instead; 0 ends that.", metavar="0..1",
                     show_default="it serves"),
    ] = None,
    reason: Reason = None,
    force: Force = False,
    account: Account = None,
    data_dir: DataDir = None,
    as_json: AsJson = False,
) -> None:
    """Have an ensemble serve that errs no more, or try it on a share.

    Its voters compile it first, beside what serves; requests go on meanwhile.

    [dim]Example:[/dim] nvp models promote plasma_physics --share 0.1
    """
    with _client(account, data_dir) as nvp:
        _say(nvp.promote(domain, model, share=share, reason=reason, force=force), as_json=as_json)


@app.command()
def rollback(
    domain: Domain,
    reason: Reason = None,
    force: Force = False,
    account: Account = None,
    data_dir: DataDir = None,
    as_json: AsJson = False,
) -> None:
    """Have the ensemble that served before serve again.

    [dim]Example:[/dim] nvp models rollback plasma_physics --reason "fronts too slow"
    """
    with _client(account, data_dir) as nvp:
        _say(nvp.rollback(domain, reason=reason, force=force), as_json=as_json)


def _client(account: str | None, data_dir: Path | None) -> SyncAgentClient:
    from nvp_agentkit.cli import payer
    from nvp_agentkit.client import SyncAgentClient

    settings = deployment.settings_for(data_dir)
    return SyncAgentClient.connect(account or payer.only_account(settings), settings=settings)


def _say(done: ServiceChanged, *, as_json: bool) -> None:
    if as_json:
        say_json(done.model_dump())
        return
    typer.echo(f"{done.domain}: {done.champion} serves")
    if done.share:
        typer.echo(f"  {done.challenger} answers {100 * done.share:g}% of the requests")
    elif done.previous:
        typer.echo(f"  `nvp models rollback {done.domain}` has {done.previous} serve again")
    if done.cold:
        typer.echo(f"  not compiled yet by {', '.join(done.cold)}: their first answers may wait for that")


def _document(service: Service) -> dict[str, Any]:
    return asdict(service.at()) | {"changes": [change.model_dump() for change in service.changes]}


def _lines(domain: str, found: Service) -> list[str]:
    now = found.at()
    stands: dict[str, Any] = {"champion": now.champion, "challenger": now.challenger, "previous": now.previous}
    lines = [f"{domain}@{alias:<10} {digest}" for alias, digest in stands.items() if digest is not None]
    if now.share:
        lines.append(f"the challenger answers {100 * now.share:g}% of the requests")
    for change in reversed(found.changes):
        at = datetime.fromtimestamp(change.since_ms / 1000, UTC).strftime("%Y-%m-%d %H:%M:%S")
        share = f" ({100 * change.share:g}%)" if change.share else ""
        why = DIGEST.sub(r"\1...", change.why)
        lines.append(f"{at}  {change.place}{share} {change.ensemble[:19]}...: {why}")
    return lines
