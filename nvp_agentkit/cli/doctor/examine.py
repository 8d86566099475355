"""All checks, in the order in which one thing needs the other."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path

from nvp_agentkit.cli import deployment
from nvp_agentkit.cli.doctor import artifacts, folder, graph, keys, machine, packages, streams, workers
from nvp_agentkit.cli.doctor.finding import Finding, broken, ok
from nvp_agentkit.errors import InvalidInput, MissingExtra, StackError, StoreUnavailable
from nvp_agentkit.settings import Settings


def examine(data_dir: Path | None) -> Iterator[Finding]:
    """Each finding as soon as it is known."""
    yield from machine.findings()
    try:
        settings = deployment.settings_for(data_dir)
    except InvalidInput as error:
        yield broken("settings", str(error), "correct that variable, or unset it")
        return
    yield from packages.findings(settings)
    yield from folder.findings(settings.data_dir)
    yield from keys.findings(settings.keys_dir)
    yield from asyncio.run(servers(settings))


async def servers(settings: Settings) -> list[Finding]:
    """What is to be found at the servers that ``settings`` name, and at those of the stack that runs."""
    place = _place(settings)
    found = [] if place.redis_url is None else await _streams(place, ours=settings.redis_url is None)
    if place.neo4j_uri is not None and place.account_password is None:
        try:
            found += await graph.findings(place, ours=settings.neo4j_uri is None)
        except MissingExtra as error:
            found.append(broken("graph", "cannot be asked", str(error)))
    return [*found, *await artifacts.findings(settings)]


def _place(settings: Settings) -> Settings:
    from nvp_agentkit.embedded.stackfile import read_stack

    if settings.redis_url is not None and settings.neo4j_uri is not None:
        return settings
    try:
        return read_stack(settings.data_dir).over(settings)
    except StackError:  # `folder` has said so
        return settings


async def _streams(settings: Settings, *, ours: bool) -> list[Finding]:
    from nvp_agentkit.streams.connect import connect

    try:
        redis = await connect(settings)
    except (StoreUnavailable, InvalidInput) as error:
        return [streams.unreachable(error, ours=ours)]
    try:
        if settings.account_password is not None:
            return [ok("streams", f"answers to account {settings.account}; only its owner can be told more")]
        return [*await streams.findings(redis), *await workers.findings(redis)]
    finally:
        await redis.aclose()
