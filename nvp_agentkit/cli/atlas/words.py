"""A dataset in words and in JSON."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from itertools import zip_longest
from typing import TYPE_CHECKING, Any

from nvp_agentkit.cli.inspect import short
from nvp_agentkit.client.units import counted, in_units
from nvp_agentkit.energy.accounts import joules

if TYPE_CHECKING:
    from rich.table import Table

    from nvp_agentkit.lineage.catalogue import Entry
    from nvp_agentkit.messages import JobCompleted


DESCRIBED = ("domain", "variant", "units", "shape", "dt_s", "dx_m", "digest", "uri", "bytes")


def document(entry: Entry) -> dict[str, Any]:
    """For a program: what `nvp atlas list` says of it."""
    dataset = entry.dataset
    return {
        "id": dataset.id,
        **{name: dataset[name] for name in DESCRIBED},
        "made_by": entry.run["kind"],
        "made_ms": entry.run["ended_ms"],
        "mj": entry.mj,
        "method": entry.method,
        "part_of": list(entry.part_of),
    }


def table(entries: Sequence[Entry], distances: Sequence[float] = ()) -> Table:
    """For a person: a line a dataset, with its distance where there is one."""
    from rich.table import Table

    columns = ("domain", "shape", "units", "dt, dx", "id", "joules", "made", "by")
    found = Table(*["distance"] * bool(distances), *columns, box=None, pad_edge=False, padding=(0, 3, 0, 0))
    for entry, distance in zip_longest(entries, distances):
        dataset = entry.dataset
        found.add_row(
            *[] if distance is None else [f"{distance:.3f}"],
            named(entry.domain, dataset["variant"]),
            shape(dataset["shape"]),
            dataset["units"] if counted(dataset["units"]) else "",
            "" if dataset["dt_s"] is None else f"{dataset['dt_s']:.4g}, {dataset['dx_m']:.4g}",
            short(dataset.id),
            joules(entry.mj),
            when(entry),
            entry.run["kind"],
        )
    return found


def named(domain: str, variant: str | None) -> str:
    """A process, and which variant of it where there are several."""
    return domain if variant is None else f"{domain}, {variant}"


def shape(sides: list[int]) -> str:
    """(N, T, H, W) as it is said."""
    trajectories, frames, height, width = sides
    return f"{trajectories} x {frames} x {height}x{width}"


def when(entry: Entry) -> str:
    """When it was made, to the minute, in UTC."""
    return datetime.fromtimestamp(entry.run["ended_ms"] / 1000, UTC).strftime("%Y-%m-%d %H:%MZ")


def made(done: JobCompleted, domain: str) -> list[str]:
    """A finished job's dataset, one fact a line."""
    about, ref = done.summary, done.dataset
    assert ref is not None
    lines = [
        f"{domain}: {about['trajectories']} x {about['frames']} frames of {about['height']}x{about['width']} cells "
        f"{in_units(str(about['units']))}, {ref.bytes / 1e6:.1f} MB, {joules(done.energy.mj)} {done.energy.method}",
        f"dataset:{ref.digest}",
    ]
    if about["masked_cells"]:
        lines.append(f"{about['masked_cells']:,} cells have no value: a mask, left out of every score")
    return lines


def made_document(done: JobCompleted, domain: str) -> dict[str, Any]:
    """`made` for a program."""
    ref = done.dataset
    assert ref is not None
    return {
        "id": f"dataset:{ref.digest}",
        "domain": domain,
        "uri": ref.uri,
        "bytes": ref.bytes,
        "energy": done.energy.model_dump(),
        **done.summary,
    }


def lines(entry: Entry, meta: dict[str, Any], statistics: dict[str, float]) -> list[str]:
    """All that is known of a dataset, one fact a line."""
    dataset = entry.dataset
    facts = {
        "id": dataset.id,
        "domain": named(entry.domain, dataset["variant"]),
        "shape": shape(dataset["shape"]),
        "units": meta["units"] if counted(meta["units"]) else "none stated",
        "values": ", ".join(f"{name} {value:.4g}" for name, value in sorted(statistics.items())) or "not looked at",
        "dt": f"{meta['dt_s']:g} s" if "time_unit" not in meta["provenance"] else f"{meta['dt_s']:g}",
        "dx": f"{meta['dx_m']:g} m" if "length_unit" not in meta["provenance"] else f"{meta['dx_m']:g}",
        "boundary": ", ".join(meta["boundary"]) + " (y, x)",
        "total": meta["conservation"],
        "bytes": f"{dataset['bytes']:,} at {dataset['uri']}",
        "made": f"{when(entry)} by {entry.run['kind']}, {joules(entry.mj)} {entry.method or ''}".rstrip(),
    }
    origin = {f"origin {name}": short_value(value) for name, value in meta["provenance"].items()}
    if entry.part_of:
        facts["part of"] = ", ".join(map(short, entry.part_of))
    return [f"{name:<18}{value}" for name, value in (facts | origin).items()]


def short_value(value: Any) -> str:
    """A fact of the provenance in one line; how many there are of what is a list."""
    if isinstance(value, dict):
        return ", ".join(f"{name} {short_value(one)}" for name, one in value.items())
    return f"{len(value)} of them" if isinstance(value, list) and len(value) > 4 else str(value)
