"""A dataset at a glance: frames, spectrum, total and entropy over time; and as a film."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from nvp_agentkit.artifacts import Artifacts
from nvp_agentkit.cli.atlas.looking import array_of, opened
from nvp_agentkit.cli.atlas.session import stack
from nvp_agentkit.cli.picture import DPI, NO_VALUE, STYLE, WIDE, mark, norm_of, origin_of, scale, typeset
from nvp_agentkit.client.units import counted
from nvp_agentkit.errors import InvalidInput
from nvp_agentkit.lineage import catalogue
from nvp_agentkit.lineage.catalogue import Entry
from nvp_agentkit.lineage.graph import Graph
from nvp_agentkit.settings import Settings

if TYPE_CHECKING:
    from matplotlib.axes import Axes

STRIP = 6  # frames in the picture
FILM = 64  # frames of the film at most, spread over the trajectory
FILM_PX, LONGEST_PX = 256, 1024  # the shorter side of the film at least, unless the longer one gets too long
STILL = 1e-3  # of the largest value: a series that varies by less is drawn as one that hardly does
FRAME_MS = 100
COLOURS = "inferno"

Floats = NDArray[np.float32]


@dataclass(frozen=True)
class Glance:
    """Frames (K, H, W) of one trajectory with their numbers, where they were observed, and the series of the whole."""

    entry: Entry
    meta: dict[str, Any]
    trajectory: int
    numbers: list[int]
    frames: Floats
    there: NDArray[np.bool_]
    series: dict[str, Floats]

    def draw(self, path: Path) -> None:
        """Write the PNG."""
        import matplotlib as mpl

        mpl.use("Agg")
        from matplotlib import pyplot as plt

        chosen = [round(at) for at in np.linspace(0, len(self.frames) - 1, min(STRIP, len(self.frames)))]
        colours, units = self._scale(), self.meta["units"]
        norm = norm_of(*colours)
        with plt.rc_context(STYLE):
            figure = plt.figure(figsize=(2.2 * STRIP, 5.6), layout="constrained")
            parts: Any = figure.subfigures(2, 1)
            film, curves = parts
            rows = 2 if self.frames.shape[2] > WIDE * self.frames.shape[1] else 1
            places = film.subplots(rows, -(-len(chosen) // rows), squeeze=False).ravel()
            for axis, at in zip(places, chosen, strict=False):
                shown = np.ma.masked_array(self.frames[at], ~self.there[at])
                image = axis.imshow(shown, origin=origin_of(self.meta["provenance"]), cmap=COLOURS, norm=norm)
                axis.set(xticks=[], yticks=[], facecolor=NO_VALUE)
                axis.set_title(f"frame {self.numbers[at]}", loc="left")
            for axis in places[len(chosen) :]:
                axis.set_axis_off()
            bar = film.colorbar(image, ax=film.axes, location="right", fraction=0.02)
            mark(bar, *colours, units)
            self._curves(curves.subplots(1, 3), typeset(units) if counted(units) else "")
            figure.suptitle(self.title, x=0.01, ha="left", weight="bold", parse_math=False)
            figure.savefig(path, dpi=DPI)
            plt.close(figure)

    @property
    def title(self) -> str:
        """What is seen."""
        trajectories = self.entry.dataset["shape"][0]
        return f"{self.entry.domain.replace('_', ' ')}: trajectory {self.trajectory} of {trajectories}"

    def _scale(self) -> tuple[float, float, bool]:
        return scale(self.frames[self.there] if self.there.any() else self.frames)

    def _curves(self, places: Sequence[Axes], units: str) -> None:
        spectrum, total, entropy = places
        waves, variance = self.series["spectrum"]
        spectrum.loglog(waves[variance > 0], variance[variance > 0])
        spectrum.set(title="spectrum: variance by wavenumber", xlabel="waves across the shorter side")
        spectrum.set_ylabel((units if units.isalpha() else f"({units})") + "$^2$" if units else "")
        for axis, name, title, unit in (
            (total, "total", "sum of the map", units), (entropy, "entropy", "spatial entropy", "nat")
        ):  # fmt: skip
            axis.plot(self.series[name].T, color="0.8", linewidth=0.8)
            axis.plot(self.series[name][self.trajectory], linewidth=1.6)
            axis.set(title=title, xlabel="frame", ylabel=unit, ylim=span(self.series[name]))
            axis.ticklabel_format(axis="y", useOffset=False)
            axis.locator_params("x", integer=True)

    def film(self, path: Path) -> None:
        """Write the animated GIF."""
        from matplotlib import colormaps
        from PIL import Image

        norm = norm_of(*self._scale())
        shorter, longer = sorted(self.frames.shape[1:])
        times = max(1, min(-(-FILM_PX // shorter), LONGEST_PX // longer))
        down = -1 if origin_of(self.meta["provenance"]) == "lower" else 1
        grey = round(255 * float(NO_VALUE))
        pictures = []
        for values, there in zip(self.frames, self.there, strict=True):
            colours = np.where(there[..., None], colormaps[COLOURS](norm(values), bytes=True)[..., :3], np.uint8(grey))
            large = colours[::down].repeat(times, axis=0).repeat(times, axis=1)
            pictures.append(Image.fromarray(np.ascontiguousarray(large)).quantize(128))
        pictures[0].save(path, save_all=True, append_images=pictures[1:], duration=FRAME_MS, loop=0)


def span(series: Floats) -> tuple[float, float]:
    """Ends of an axis for ``series``, wide enough that rounding is not drawn as if something happened."""
    low, high = float(series.min()), float(series.max())
    room = 0.05 * (high - low)
    least = STILL * max(abs(low), abs(high)) or 1.0
    room = max(room, (least - (high - low)) / 2)
    return low - room, high + room


async def glance(settings: Settings, name: str, trajectory: int) -> Glance:
    """A trajectory of the dataset ``name``, at most `FILM` frames of it, and what is known of the whole.

    Raises:
        InvalidInput: it has no such trajectory, or was made when no series were kept.
    """
    async with stack(settings) as there, Graph.connect(there) as graph:
        entry = await catalogue.find(graph, name)
        trajectories, frames = entry.dataset["shape"][:2]
        if not 0 <= trajectory < trajectories:
            raise InvalidInput(f"trajectory {trajectory}: {entry.domain} has {trajectories}, counted from 0")
        looks = await catalogue.looks(graph, entry)
        if "spectrum" not in looks:
            raise InvalidInput(
                f"{entry.dataset.id} has no series: it is from an older version, or its budget ended with the data; "
                "import or make it again"
            )
        artifacts = Artifacts.from_settings(there)
        shapes = {"total": (trajectories, frames), "entropy": (trajectories, frames), "spectrum": (2, -1)}
        series = {key: await array_of(artifacts, looks[key], shape) for key, shape in shapes.items()}
        path = await artifacts.local_path(entry.ref)
    numbers = sorted({round(at) for at in np.linspace(0, frames - 1, min(FILM, frames))})
    return Glance(entry, *_read(path, trajectory, numbers), series)


def _read(path: Path, trajectory: int, numbers: list[int]) -> tuple[dict[str, Any], int, list[int], Floats, Any]:
    with opened(path) as file:
        meta = json.loads(file.metadata()["nvp"])
        values = file.get_slice("values")
        frames = np.stack([values[trajectory, number] for number in numbers])
        there = np.ones(frames.shape, np.bool_)
        if "mask" in file.keys():  # noqa: SIM118 - it is no mapping
            mask = file.get_slice("mask")
            there = np.stack([mask[trajectory, number] for number in numbers]).astype(np.bool_)
    return meta, trajectory, numbers, frames, there
