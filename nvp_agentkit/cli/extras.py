"""The extras of the package: which of them are installed, and which a command cannot start without."""

from __future__ import annotations

import re
from collections.abc import Iterable
from importlib import metadata

from nvp_agentkit.errors import MissingExtra
from nvp_agentkit.settings import Settings

PACKAGE = "nvp-agentkit"
REQUIREMENT = re.compile(r"""^([\w.-]+).*extra == ["'](\w+)["']""")
ALIASES = {"all", "sim"}
COMPUTING = ("model", "observability")
WORKERS = {"recorder": ("graph", "observability"), "tally": ("observability",)}


def extras(requirements: Iterable[str]) -> dict[str, list[str]]:
    """Extra -> distributions, from the package's own metadata."""
    found: dict[str, list[str]] = {}
    for requirement in requirements:
        match = REQUIREMENT.match(requirement)
        if match and match[2] not in ALIASES:
            found.setdefault(match[2], []).append(match[1])
    return found


def installed(distribution: str) -> bool:
    try:
        metadata.version(distribution)
    except metadata.PackageNotFoundError:
        return False
    return True


def need(*wanted: str) -> None:
    """Look before anything starts.

    Raises:
        MissingExtra: some of the extras ``wanted`` are not there, or not whole; the text says how to get them.
    """
    consist_of = extras(metadata.requires(PACKAGE) or ())
    # An editable install may be older than an extra: then all that is known of it is that it was not installed.
    parts = {extra: consist_of.get(extra, [f"{PACKAGE}[{extra}]"]) for extra in wanted}
    absent = {extra: [one for one in parts[extra] if not installed(one)] for extra in wanted}
    incomplete = [extra for extra in wanted if absent[extra]]
    if incomplete:
        packages = ", ".join(one for extra in incomplete for one in absent[extra])
        raise MissingExtra(f"{packages} not installed; pip install '{PACKAGE}[{','.join(incomplete)}]'")


def need_for_stack(settings: Settings) -> None:
    """`need` for a stack of all workers, with a graph here unless one elsewhere is named.

    A stream server may be missing all the same: that one has a fallback outside Python, and says so itself.
    """
    graph_here = settings.neo4j_uri is None and not installed("arcadedb-embedded")
    need("model", "graph", "observability", *["embedded"] * graph_here)


def need_for_worker(name: str) -> None:
    """`need` for one worker's process: the tally, say, computes nothing."""
    need(*WORKERS.get(name.partition("-")[0], COMPUTING))
