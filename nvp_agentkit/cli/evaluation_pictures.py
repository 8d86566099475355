"""What `nvp evaluate` found, as two pictures that can be read in grey as well: curves, and maps of one window."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from nvp_agentkit.cli.evaluation_words import GIVEN_THE_STATE, Document, in_order, scores_of
from nvp_agentkit.cli.picture import DPI, NO_VALUE, QUIET, STYLE, mark, norm_of, scale

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

STRONG, FAINT = "black", "0.55"
MARKS = ("o", "s", "^", "D", "v", "P", "X", "*", "<", ">")
DASHES: tuple[Any, ...] = ("-", (0, (5, 2)), (0, (1, 1.5)), (0, (5, 1.5, 1, 1.5)))
LARGEST_ERROR = 10.0  # beyond, a curve tells nothing
SMALLEST_ERROR = 1e-3
WIDEST_MAP = 2.4  # inches


def draw(folder: Path, document: Document, maps: dict[str, Any]) -> list[Path]:
    """Write ``scores.png`` and ``errors.png``; where they are."""
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot as plt

    folder.mkdir(parents=True, exist_ok=True)
    made = []
    with plt.rc_context(STYLE):
        for name, picture in (("scores", _scores(plt, document)), ("errors", _errors(plt, document, maps))):
            made.append(folder / f"{name}.png")
            picture.savefig(made[-1], dpi=DPI)
            plt.close(picture)
    return made


def _scores(plt: Any, document: Document) -> Figure:
    figure: Figure
    figure, places = plt.subplots(2, 4, figsize=(15, 7.4), layout="constrained")
    error, skill, width, total, first, last, reliability, risk = places.flat
    _by_lead(error, document, "vrmse", "error (VRMSE)")
    error.set_yscale("log")
    error.set_ylim(top=min(LARGEST_ERROR, error.get_ylim()[1]))
    _skill(skill, document)
    _widths(width, document)
    _by_lead(total, document, "budget_error", "error of the map's total")
    total.set_yscale("log")
    for place, at in ((first, 0), (last, -1)):
        _spectrum(place, document, at)
    _reliability(reliability, document)
    _risk(risk, document)
    handles, names = error.get_legend_handles_labels()
    figure.legend(handles, names, loc="outside lower center", ncols=5, frameon=False)
    _head(figure, document, "how far off, by lead time, scale and claimed sureness")
    return figure


def _head(figure: Figure, document: Document, what: str) -> None:
    data, model = document["data"], document["models"][0]
    domain = data["domain"].replace("_", " ")
    where = f"{domain}: {data['windows']} windows of {data['trajectories']} x {data['frames']} held-out frames"
    figure.suptitle(f"{model['name']} ({model['called']}): {what}\n{where}", x=0.01, ha="left", parse_math=False)


def _look(document: Document, name: str) -> dict[str, Any]:
    """Judged models black, the others grey; each with a mark and dashes of its own."""
    order = in_order(document)
    models = [model["name"] for model in document["models"]]
    place = order.index(name)
    strong = name in models
    dashes = DASHES[models.index(name) % len(DASHES)] if strong else DASHES[place % len(DASHES)]
    return {
        "color": STRONG if strong else FAINT, "marker": MARKS[place % len(MARKS)], "linestyle": dashes,
        "linewidth": 2.2 if strong else 1.2, "markersize": 5.5, "label": name, "zorder": 3 if strong else 2,
    }  # fmt: skip


def _steps(axis: Axes, document: Document, title: str) -> None:
    axis.set(title=title, xlabel="steps ahead", xscale="log")
    axis.set_xticks(document["leads"], [str(lead) for lead in document["leads"]])
    axis.minorticks_off()
    axis.grid(color="0.9")


def _by_lead(axis: Axes, document: Document, figure: str, title: str) -> None:
    for name in in_order(document):
        axis.plot(document["leads"], [one[figure] for one in scores_of(document, name)], **_look(document, name))
    _steps(axis, document, title)


def _skill(axis: Axes, document: Document) -> None:
    for model in document["models"]:
        mine = scores_of(document, model["name"])
        values = [one["skill"] for one in mine]
        axis.plot(document["leads"], values, **_look(document, model["name"]))
        for one in mine:
            if one["skill_low"] is not None:
                axis.plot([one["lead"]] * 2, [one["skill_low"], one["skill_high"]], color=STRONG, linewidth=1)
    axis.axhline(0, color=STRONG, linewidth=0.8)
    _steps(axis, document, "skill over the best trivial one")
    for one in scores_of(document, document["models"][0]["name"]):
        axis.annotate(one["best"].replace("_", "\n"), (one["lead"], 0), textcoords="offset points", xytext=(0, -4),
                      ha="center", va="top", fontsize=6.5, color=QUIET)  # fmt: skip
    axis.margins(x=0.14)
    low, high = axis.get_ylim()
    axis.set_ylim(min(low, -0.25 * (high - min(low, 0))), high)


def _widths(axis: Axes, document: Document) -> None:
    for model in document["models"]:
        mine, look = scores_of(document, model["name"]), _look(document, model["name"])
        axis.plot(document["leads"], [one["width_90"] for one in mine], **look)
        needed = [one["width_90"] / one["spread_skill"] for one in mine]
        axis.plot(document["leads"], needed, **(look | {"color": FAINT, "markerfacecolor": "white"}))
    axis.set_ylim(bottom=0)
    _steps(axis, document, "width of the 90% interval, in deviations")
    axis.text(0.03, 0.97, "filled: claimed\nopen: what the errors would need", transform=axis.transAxes, va="top",
              fontsize=8, color=QUIET)  # fmt: skip


def _spectrum(axis: Axes, document: Document, at: int) -> None:
    shown = [model["name"] for model in document["models"]]
    best = scores_of(document, shown[0])[at]["best"]
    others = [name for name in in_order(document) if name == best or name.startswith(GIVEN_THE_STATE)]
    lead = document["leads"][at]
    for name in (*shown, *others):
        values = scores_of(document, name)[at]["spectrum"]
        if values:
            axis.loglog(range(1, len(values) + 1), values, **(_look(document, name) | {"markevery": 0.15}))
    axis.axhline(1, color=STRONG, linewidth=0.8)
    axis.set(title=f"error by scale, {lead} step{'s' * (lead > 1)} ahead", xlabel="waves across the shorter side")
    axis.set_ylim(max(SMALLEST_ERROR, axis.get_ylim()[0]), LARGEST_ERROR)
    axis.grid(color="0.9")
    axis.text(0.97, 0.03, "1: nothing of that scale is known", transform=axis.transAxes, ha="right", fontsize=8,
              color=QUIET)  # fmt: skip


def _reliability(axis: Axes, document: Document) -> None:
    axis.plot([0, 100], [0, 100], color=STRONG, linewidth=0.8)
    for place, one in enumerate(scores_of(document, document["models"][0]["name"])):
        claimed = [100 * float(level) for level in one["coverage"]]
        observed = [100 * share for share in one["coverage"].values()]
        axis.plot(claimed, observed, **_step_look(place, one["lead"]))
    axis.set(title="reliability: truth inside intervals", xlabel="claimed, %", ylabel="observed, %", aspect="equal")
    axis.grid(color="0.9")
    axis.legend(frameon=False, fontsize=8)


def _step_look(place: int, lead: int) -> dict[str, Any]:
    shade = ("black", "0.35", "0.55", "0.7")[place % 4]
    return {"color": shade, "marker": MARKS[place % len(MARKS)], "linestyle": DASHES[place % len(DASHES)],
            "markersize": 4.5, "label": f"{lead} step{'s' * (lead > 1)} ahead"}  # fmt: skip


def _risk(axis: Axes, document: Document) -> None:
    axis.set(title="risk and coverage: error of the surest cells", xlabel="cells kept, the surest first, %")
    axis.set_ylabel("their RMSE / that of all")
    mine = [one for one in scores_of(document, document["models"][0]["name"]) if one["risk"]]
    if not mine:
        axis.text(0.5, 0.5, "one sigma for all cells", transform=axis.transAxes, ha="center", color=QUIET)
        return
    for place, one in enumerate(mine):
        axis.plot([100 * float(share) for share in one["risk"]], list(one["risk"].values()),
                  **_step_look(place, one["lead"]))  # fmt: skip
    ideal = mine[0]["ideal"]
    axis.plot([100 * float(share) for share in ideal], list(ideal.values()), color=FAINT, linewidth=1,
              label=f"perfect sureness, {mine[0]['lead']} ahead")  # fmt: skip
    axis.axhline(1, color=STRONG, linewidth=0.8)
    axis.set_ylim(0, 1.1)
    axis.grid(color="0.9")
    axis.legend(frameon=False, fontsize=8)


def _errors(plt: Any, document: Document, maps: dict[str, Any]) -> Figure:
    """What came, the forecast, its error, the best trivial one's, what was claimed; first and last lead time."""
    leads = sorted({0, len(document["leads"]) - 1})
    height, width = maps["last"].shape
    high = WIDEST_MAP * min(2.0, height / width)
    figure: Figure
    figure, places = plt.subplots(
        len(leads), 5, squeeze=False, figsize=(5 * (WIDEST_MAP + 0.3), len(leads) * (high + 1.0) + 0.7),
        layout="constrained",
    )  # fmt: skip
    for row, at in zip(places, leads, strict=True):
        _row(figure, row, document, maps, at)
    _head(figure, document, f"from frame {maps['frame']} of held-out trajectory {maps['trajectory']}, a middling case")
    return figure


def _row(figure: Figure, row: Sequence[Axes], document: Document, maps: dict[str, Any], at: int) -> None:
    lead, model = document["leads"][at], document["models"][0]["name"]
    best = scores_of(document, model)[at]["best"]
    came, units = maps["came"][at], document["data"]["units"]
    there = np.ones(came.shape, bool) if maps["there"] is None else maps["there"][at]
    ours, theirs = (np.abs(maps["mean"][name][at] - came) for name in (model, best))
    field = scale(came[there])
    off = (0.0, float(np.percentile(np.concatenate([ours[there], theirs[there]]), 99)) or 1.0, False)
    panels = [
        (f"what came, {lead} step{'s' * (lead > 1)} ahead", came, field, "inferno"),
        ("forecast", maps["mean"][model][at], field, "inferno"),
        ("size of its error", ours, off, "magma_r"),
        (f"{best}'s error", theirs, off, "magma_r"),
        ("claimed: one sigma", np.zeros_like(came) if maps["sigma"] is None else maps["sigma"][at], off, "magma_r"),
    ]
    for axis, (title, values, (least, most, skewed), colours) in zip(row, panels, strict=True):
        shown = np.ma.masked_array(values, ~there)
        image = axis.imshow(shown, origin="lower", cmap=colours, norm=norm_of(least, most, skewed))
        axis.set(xticks=[], yticks=[], facecolor=NO_VALUE)
        axis.set_title(title, loc="left", fontsize=9.5)
        bar = figure.colorbar(image, ax=axis, location="bottom", fraction=0.05, pad=0.03)
        mark(bar, least, most, skewed, units)
