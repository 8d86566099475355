"""What `nvp evaluate` found, in words and tables for a terminal."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from rich.table import Table

Document = dict[str, Any]
Score = dict[str, Any]
LOST = 99  # times what is there in a band: there is nothing
GIVEN_THE_STATE = "solver_"  # begins the name of who is shown more than the others


def lines(document: Document) -> Iterator[str]:
    """Who was judged, on what."""
    data = document["data"]
    for model in document["models"]:
        yield f"{model['name']}: {model['called']}, {model['parameters']:,} parameters, of {model['domain']}"
    made = f"simulated {data['domain']}, seed {data['seed']}" if data["source"] == "simulated" else data["source"]
    units = "" if data["units"] == "1" else f" in {data['units']}"
    yield (
        f"On {data['trajectories']} x {data['frames']} frames of {data['height']}x{data['width']} cells{units} from "
        f"{made}, held out {data['held_out_by']}: {data['windows']} windows, the same for all"
    )
    yield (
        f"Trivial forecasters learnt from {data['taught_trajectories']} x {data['taught_frames']} other frames. "
        f"Intervals hold 95% of resamples by {data['interval_by']}"
    )
    joules = document["energy"]["mj"] / 1000
    yield f"All this took {joules:,.1f} J, {document['energy']['method']}"


def tables(document: Document) -> Iterator[Table]:
    """Each model by lead time; then everybody's error by lead time, the best of the first one on top."""
    for model in document["models"]:
        yield _model(document, model["name"])
    yield _everybody(document)


def scores_of(document: Document, name: str) -> list[Score]:
    """By lead time."""
    return [one for one in document["scores"] if one["name"] == name]


def in_order(document: Document) -> list[str]:
    """All forecasters, the least error at the first lead time first."""
    first = [one for one in document["scores"] if one["lead"] == document["leads"][0]]
    return [one["name"] for one in sorted(first, key=lambda one: one["vrmse"])]


def _model(document: Document, name: str) -> Table:
    mine = scores_of(document, name)
    bands = list(mine[0]["bands"])
    columns = ("steps", "skill, 95%", "over", "VRMSE", "nRMSE", *bands, "total", "covers", "width", "sigma/error")
    table = Table(*columns, title=f"{name} by lead time", title_justify="left", box=None, padding=(0, 2, 0, 0))
    for one in mine:
        covers = "/".join(f"{100 * one['coverage'][level]:.0f}" for level in ("0.5", "0.9", "0.95"))
        table.add_row(
            str(one["lead"]), _between(one, "skill", "+.3f"), one["best"], _between(one, "vrmse", ".4f"),
            f"{one['nrmse']:.4f}", *(_of_band(one["bands"][band]) for band in bands),
            f"{100 * one['budget_error']:.2f}%", covers, f"{one['width_90']:.2f}", f"{one['spread_skill']:.2f}",
        )  # fmt: skip
    return table


def _of_band(error: float) -> str:
    return f"{error:.3f}" if error < LOST else f">{LOST}"


def _between(score: Score, name: str, form: str) -> str:
    low, high = score[f"{name}_low"], score[f"{name}_high"]
    known = "" if low is None else f" ({low:{form}} to {high:{form}})"
    return f"{score[name]:{form}}{known}"


def _everybody(document: Document) -> Table:
    columns = [f"{lead} step{'s' * (lead > 1)}" for lead in document["leads"]]
    table = Table("VRMSE", *columns, "alike until", "CPU ms a step", title="Everybody", title_justify="left", box=None,
                  padding=(0, 2, 0, 0))  # fmt: skip
    models = {model["name"] for model in document["models"]}
    for name in in_order(document):
        mine = scores_of(document, name)
        until = str(mine[0]["correlated_until"])
        cost = f"{1000 * mine[0]['cpu_s']:.1f}" if mine[0]["cpu_s"] else ""
        style = "bold" if name in models else ""
        table.add_row(name, *(f"{one['vrmse']:.4f}" for one in mine), until, cost, style=style)
    return table


def meaning(document: Document) -> list[str]:
    """What the tables' columns are, one a line."""
    said = [
        "skill: 1 - VRMSE / that of the trivial forecaster that is best at that lead time; 0 is as good, 1 is perfect",
        "VRMSE: 1 is as bad as each map's mean; bands of wavenumber the same; total: error of the map's sum",
        "alike until: the last of these lead times before its correlation with what came falls below 0.8",
        "covers: truth in intervals that claim 50, 90, 95%; width: of the 90% one, in the field's deviations",
    ]
    if any(score["name"].startswith(GIVEN_THE_STATE) for score in document["scores"]):
        said.append("solver: the equation on half the cells, given the whole hidden state: more than a forecaster sees")
    return said
