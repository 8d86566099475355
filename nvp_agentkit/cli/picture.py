"""One picture of one forecast: what was known, what came, the forecast, its error, its stated uncertainty."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from nvp_agentkit.arrayfile import ROWS_DESCEND
from nvp_agentkit.cli.frames import rmse
from nvp_agentkit.cli.inspect import short
from nvp_agentkit.client.units import counted, readable, with_units
from nvp_agentkit.errors import MissingExtra

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.colorbar import Colorbar
    from matplotlib.figure import Figure

    from nvp_agentkit.client import Forecast

Field = NDArray[np.float32]
Origin = Literal["lower", "upper"]  # where the first row is drawn
CLIP = 0.5  # per cent of the cells at either end that may be off a colour scale
SKEWED = 0.15  # of the scale: a median below it, and nothing would be seen of most cells on a linear scale
WIDE = 1.7  # times as wide as high: two columns instead of one row
PANEL_IN, WIDE_PANEL_IN = 3.0, 6.2  # width of a map in a row, in two columns
HIGHEST_IN = 8.0
HEAD_IN, BAR_IN = 0.66, 0.95  # title and facts above all maps, title and colour bar around each
THICK_IN, GAP_IN = 0.11, 0.08  # of a colour bar, and above it
NARROW = 0.5  # times as wide as high: titles begin left of the map
TICKS = 5  # of a colour bar
DPI = 110
STYLE: dict[Any, Any] = {
    "font.size": 9, "axes.titlesize": 10.5, "axes.formatter.limits": (-2, 4), "axes.formatter.use_mathtext": True,
}  # fmt: skip
NOTHING = "no cell was observed in all of these frames"
NO_VALUE, QUIET = "0.82", "0.35"  # greys
EXTEND = {(False, False): "neither", (False, True): "max", (True, False): "min", (True, True): "both"}
TYPESET = {"n0 Te (rho_s/L_n)^2": r"$n_0 T_e\,(\rho_s/L_n)^2$"}


@dataclass(frozen=True)
class Panel:
    """One map with its colours."""

    title: str
    field: Field
    colours: str
    least: float
    most: float
    skewed: bool = False


def draw(
    path: Path,
    last: Field,
    forecast: Forecast,
    *,
    title: str,
    truth: Field | None = None,
    valid: NDArray[np.bool_] | None = None,
    origin: Origin = "lower",
) -> None:
    """Write the PNG. Colours are shared where values can be compared; cells outside ``valid`` stay grey.

    Args:
        path: where to.
        last: the last known frame (H, W).
        forecast: of the frame after it.
        title: what the forecast is of.
        truth: what came, where it is known.
        valid: cells that have a value; None: all.
        origin: where the first row is drawn.

    Raises:
        MissingExtra: matplotlib is not installed.
    """
    try:
        import matplotlib as mpl
    except ImportError as error:
        raise MissingExtra.of("matplotlib", extra="plot") from error
    mpl.use("Agg")
    from matplotlib import pyplot as plt

    there = np.ones(last.shape, bool) if valid is None else valid
    compared = there if there.any() else ~there  # scales need a cell; the maps stay grey
    panels = _panels(last, forecast, truth, compared)
    with plt.rc_context(STYLE):
        figure, axes = _canvas(plt, len(panels), last.shape)
        for axis, panel in zip(axes, panels, strict=False):
            _show(figure, axis, panel, there, forecast.units, origin)
        for axis in axes[len(panels) :]:
            axis.set_axis_off()
        _head(figure, title, _facts(forecast, truth, last, there) if there.any() else NOTHING)
        path.parent.mkdir(parents=True, exist_ok=True)
        figure.savefig(path, dpi=DPI)
        plt.close(figure)


def origin_of(facts: Mapping[str, Any]) -> Origin:
    """Where the first row of a field with these facts is drawn: north is up, whichever way its latitudes go."""
    return "upper" if facts.get(ROWS_DESCEND) else "lower"


def typeset(units: str) -> str:
    """Units as they are printed: ``m2 s-2`` with raised powers."""
    if units in TYPESET:
        return TYPESET[units]
    if not readable(units):
        return units.replace("$", r"\$")  # else matplotlib would take it for mathematics
    return re.sub(r"(?<=[A-Za-z])\^?(-?\d)\b", r"$^{\1}$", units)


def _panels(last: Field, forecast: Forecast, truth: Field | None, there: NDArray[np.bool_]) -> list[Panel]:
    mean, sigma = forecast.mean, forecast.std
    off = mean - (last if truth is None else truth)
    shown = np.stack([last, mean if truth is None else truth])[:, there]
    low, high, skewed = scale(shown)
    widest = _bounds(np.abs(off[there]))[1]

    def field(title: str, values: Field) -> Panel:
        return Panel(title, values, "inferno", low, high, skewed)

    panels = [field("last known frame", last)]
    if truth is not None:
        panels.append(field("what came", truth))
    panels.append(field("forecast", mean))
    title = "forecast − last known frame" if truth is None else "error: forecast − what came"
    panels.append(Panel(title, off, "RdBu_r", -widest, widest))
    if np.ptp(sigma[there]) > 0:  # a number is no map
        panels.append(Panel("stated uncertainty: one sigma", sigma, "viridis", 0.0, _bounds(sigma[there])[1]))
    return panels


def scale(values: Field) -> tuple[float, float, bool]:
    """Least and most of a colour scale for ``values``, and whether most of them lie so low that it must be bent."""
    low, high = _bounds(values)
    if values.min() >= 0 and low < SKEWED * high:
        low = 0.0
    skewed = bool(low >= 0 and np.median(values) - low < SKEWED * (high - low))
    if skewed:  # its ends are ticks
        fine = _fine(high - low)
        low, high = float(np.floor(low / fine) * fine), float(np.ceil(high / fine) * fine)
    return low, high, skewed


def _bounds(values: Field) -> tuple[float, float]:
    low, high = (float(bound) for bound in np.percentile(values, (CLIP, 100 - CLIP)))
    return (low, high) if high > low else (float(values.min()), float(values.max()))  # hardly a cell is another


def _map_size(shape: tuple[int, ...]) -> tuple[float, float]:
    """Width and height in inches that a map of ``shape`` has room in."""
    aspect = shape[1] / shape[0]
    width = WIDE_PANEL_IN if aspect > WIDE else PANEL_IN
    return width, min(width / aspect, HIGHEST_IN)


def _canvas(plt: Any, panels: int, shape: tuple[int, ...]) -> tuple[Figure, list[Axes]]:
    width, height = _map_size(shape)
    columns = 2 if width == WIDE_PANEL_IN else panels
    rows = -(-panels // columns)
    figure, axes = plt.subplots(
        rows,
        columns,
        squeeze=False,
        figsize=(columns * (width + 0.25), rows * (height + BAR_IN) + HEAD_IN),
        layout="constrained",
    )
    figure.get_layout_engine().set(w_pad=0.06, rect=(0, 0, 1, 1 - HEAD_IN / figure.get_figheight()))
    return figure, list(axes.flat)


def _show(
    figure: Figure, axis: Axes, panel: Panel, there: NDArray[np.bool_], units: str, origin: Origin
) -> None:
    norm = norm_of(panel.least, panel.most, panel.skewed)
    image = axis.imshow(np.ma.masked_array(panel.field, ~there), origin=origin, cmap=panel.colours, norm=norm)
    axis.set_facecolor(NO_VALUE)
    axis.set_title(panel.title, loc="left" if there.shape[1] > NARROW * there.shape[0] else "center")
    axis.set_xticks([])
    axis.set_yticks([])
    inside = panel.field[there]
    extend = EXTEND[bool((inside < panel.least).any()), bool((inside > panel.most).any())]
    width, height = _map_size(there.shape)
    bar = figure.colorbar(
        image, ax=axis, location="bottom", extend=extend, extendfrac=0.1 / width,
        fraction=THICK_IN / height, pad=GAP_IN / height, aspect=width / THICK_IN,
    )  # fmt: skip
    mark(bar, panel.least, panel.most, panel.skewed, units)


def mark(bar: Colorbar, least: float, most: float, skewed: bool, units: str) -> None:
    """Ticks at even distances, and what they count: a bent scale says so."""
    from matplotlib.ticker import FixedLocator, MaxNLocator

    bar.locator = FixedLocator(bent_ticks(least, most)) if skewed else MaxNLocator(TICKS)
    bar.update_ticks()
    bar.set_label((typeset(units) if counted(units) else "no unit") + (", square-root scale" if skewed else ""))
    bar.outline.set_visible(False)


def bent_ticks(least: float, most: float) -> list[float]:
    """Round values from ``least`` to ``most``, at about even distances on a square-root scale."""
    span = most - least
    fine = _fine(span)
    even = least + span * np.linspace(0, 1, TICKS) ** 2
    return [float(round(value / fine) * fine) for value in even]


def _fine(span: float) -> float:
    """The decimal place that tells the lowest ticks of a bent scale apart: half of their distance, or less."""
    return float(10.0 ** np.floor(np.log10(span / (2 * (TICKS - 1) ** 2))))


def norm_of(least: float, most: float, skewed: bool) -> Any:
    """What maps values to colours."""
    from matplotlib.colors import Normalize, PowerNorm

    return PowerNorm(0.5, least, most) if skewed else Normalize(least, most)


def _head(figure: Figure, title: str, facts: str) -> None:
    inches = figure.get_figheight()
    figure.text(0.008, 1 - 0.1 / inches, title, fontsize=13, weight="bold", va="top", parse_math=False)
    figure.text(0.008, 1 - 0.36 / inches, facts, fontsize=10, color=QUIET, va="top")


def _facts(forecast: Forecast, truth: Field | None, last: Field, there: NDArray[np.bool_]) -> str:
    """The figures a reader asks for, in one line."""
    facts = []
    if truth is not None:
        missed, stayed = (rmse(one, truth, there) for one in (forecast.mean, last))
        units = typeset(forecast.units)
        facts.append(with_units(f"RMSE {missed:.3g}, persistence {stayed:.3g}", units))
    sigma = float(np.mean(forecast.std[there]))
    facts.append(f"sigma {sigma:.3g}" + ("" if forecast.trained else ", not calibrated"))
    who = f"{len(forecast.agreed)} voters agree" if forecast.certificate else short(*forecast.models.values())
    return "  ·  ".join([*facts, who, f"{forecast.energy.mj / 1000:.2f} J {forecast.energy.method}"])
