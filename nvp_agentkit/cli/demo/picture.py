"""One picture of one forecast: now, truth, forecast, error, sigma."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from nvp_agentkit.client import Forecast
from nvp_agentkit.errors import MissingExtra

Field = NDArray[np.float32]


def draw(path: Path, now: Field, truth: Field, forecast: Forecast, *, title: str) -> None:
    """Write the PNG; fields are (H, W), colours shared where values can be compared.

    Raises:
        MissingExtra: matplotlib is not installed.
    """
    try:
        import matplotlib as mpl
    except ImportError as error:
        raise MissingExtra.of("matplotlib", extra="plot") from error
    mpl.use("Agg")
    from matplotlib import pyplot as plt

    off = forecast.mean - truth
    low, high = (float(bound) for bound in np.percentile(np.stack([now, truth]), (0.5, 99.5)))
    widest = float(np.percentile(np.abs(off), 99.5)) or 1.0
    sigma = forecast.std
    panels = (
        ("now", now, "inferno", low, high),
        ("truth", truth, "inferno", low, high),
        ("forecast", forecast.mean, "inferno", low, high),
        ("error", off, "RdBu_r", -widest, widest),
        ("sigma", sigma, "viridis", 0.0, float(np.percentile(sigma, 99.5))),
    )
    figure, axes = plt.subplots(1, len(panels), figsize=(17, 3.9), layout="constrained")
    for axis, (name, field, colours, least, most) in zip(axes, panels, strict=True):
        image = axis.imshow(field, origin="lower", cmap=colours, vmin=least, vmax=most)
        axis.set_title(name, fontsize=12)
        axis.set_xticks([])
        axis.set_yticks([])
        bar = figure.colorbar(image, ax=axis, orientation="horizontal", fraction=0.06, pad=0.03)
        bar.set_label(forecast.units, fontsize=9)
        bar.ax.tick_params(labelsize=8)
    rmse = float(np.sqrt(np.nanmean(off**2)))
    figure.suptitle(
        f"{title}  (RMSE {rmse:.3g}, mean sigma {float(np.nanmean(sigma)):.3g} {forecast.units})", fontsize=12
    )
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=110)
    plt.close(figure)
