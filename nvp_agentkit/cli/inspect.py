"""``nvp verify`` and ``nvp lineage``: is it true, and where does it come from."""

from __future__ import annotations

import asyncio
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer

from nvp_agentkit.cli import deployment
from nvp_agentkit.cli.options import AsJson, DataDir, say_json


def verify_certificate(
    certificate: Annotated[Path, typer.Argument(help="File with a quorum certificate.", metavar="FILE")],
    root: Annotated[
        Path | None,
        typer.Option(help="The deployment's root key.", metavar="FILE", show_default="FOLDER/keys/root.pub"),
    ] = None,
    data_dir: DataDir = None,
    as_json: AsJson = False,
) -> None:
    """Check a forecast's certificate: is it what the voters signed?

    Signatures, keys and rule are checked offline, always; the agreement is computed again while the votes' arrays are
    kept. Needs no running stack. Exit status 1 if anything does not hold.

    [dim]Example:[/dim] nvp verify .nvp/demo/certificate.json
    """
    from nvp_agentkit.artifacts import Artifacts
    from nvp_agentkit.client.forecast import Certificate
    from nvp_agentkit.errors import InvalidInput, VerificationFailed

    settings = deployment.settings_for(data_dir)
    try:
        raw = certificate.read_bytes()
    except OSError as error:
        raise InvalidInput(f"{certificate}: {error.strerror}") from error
    trusted = root or settings.keys_dir / "root.pub"
    if not trusted.is_file():
        raise InvalidInput(f"{trusted}: no root key there to verify with; give --root FILE, or --data-dir of its stack")
    try:
        found = Certificate(raw, trusted, Artifacts.from_settings(settings)).verify()
    except VerificationFailed as error:
        raise VerificationFailed(f"{certificate}: {error}") from error
    if as_json:
        say_json(
            {
                "valid": True,
                "recomputed": found.recomputed,
                "request_id": found.request_id,
                "domain": found.domain,
                "account": found.account,
                "agreed": found.agreed,
                "dissent": found.dissent,
                "missing": found.missing,
                "models": found.models,
            }
        )
        return
    typer.echo(f"valid: {found.text}")
    typer.echo(f"request {found.request_id} of {found.account}, {found.domain}; rule {found.rule.digest[:19]}...")


def lineage(
    thing: Annotated[
        str, typer.Argument(help="A request id, or the id of a model or dataset, or its beginning.", metavar="ID")
    ],
    account: Annotated[
        str | None, typer.Option(help="Whose request, where several used that id.", metavar="NAME")
    ] = None,
    data_dir: DataDir = None,
    as_json: AsJson = False,
) -> None:
    """Say where a forecast, a model or a dataset comes from.

    Of a request: who asked, who voted, who paid. Of a model or dataset: all that it was made of.

    [dim]Example:[/dim] nvp lineage model:0c92052e473d
    """
    from nvp_agentkit.client.place import find_as_owner
    from nvp_agentkit.errors import UnknownName
    from nvp_agentkit.lineage import queries
    from nvp_agentkit.lineage.graph import Graph

    place = find_as_owner(deployment.settings_for(data_dir))

    async def ask() -> Any:
        async with Graph.connect(place.settings) as graph:
            try:
                return await queries.decision(graph, thing, account=account)
            except UnknownName:
                if ":" not in thing:  # no id of the graph's own, so a request was meant
                    raise
                return await queries.ancestry(graph, await queries.called(graph, thing))

    found = asyncio.run(ask())
    if as_json:
        say_json(asdict(found))
    elif hasattr(found, "ballots"):
        for line in decision_lines(found):
            typer.echo(line)
    else:
        for one in found.things:
            said = ", ".join(f"{name} {value}" for name, value in sorted(one.properties.items()) if name in SHOWN)
            typer.echo(f"{one.label:<15} {short(one.id)}  {said}")


SHOWN = {
    "name", "domain", "kind", "seed", "commit", "dirty", "version", "mj", "method", "outcome", "params", "cpu", "jax",
    "units",
}  # fmt: skip
VERDICTS = {True: "dissents", False: "agrees", None: "is not judged"}


def short(id: str) -> str:
    """An id a person can compare: its kind and the first twelve hex digits."""
    kind, _, digest = id.rpartition(":")
    return f"{kind.partition(':')[0]}:{digest[:12]}" if kind and len(digest) == 64 else id


def decision_lines(found: Any) -> list[str]:
    """A decision in words, one fact a line."""
    from nvp_agentkit.energy.accounts import joules

    decision = found.decision.properties
    by = f", decided by {found.decided_by}" if found.decided_by else ""
    lines = [
        f"request {decision['request_id']}: {decision['outcome']}",
        f"  asked by {found.asked_by}{by}, paid by {', '.join(found.paid_by) or 'nobody'}",
    ]
    lines += [f"  answered by {short(model)}" for model in found.models]
    for ballot in found.ballots:
        lines.append(f"  {ballot.voter} {VERDICTS[ballot.dissent]:<28} {short(ballot.model_id or 'unknown model')}")
    lines += [
        f"  {one.phase}: {joules(one.mj)} {one.method} ({joules(one.lo_mj)} to {joules(one.hi_mj)})"
        for one in found.joules
    ]
    return lines
