"""Judging every trivial forecaster on a dataset, as a table and a picture."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from rich.table import Table

from nvp_agentkit.artifacts import Artifacts
from nvp_agentkit.cli.atlas.looking import meta
from nvp_agentkit.cli.atlas.session import Order
from nvp_agentkit.cli.picture import Origin, draw, origin_of
from nvp_agentkit.cli.screen import console
from nvp_agentkit.cli.watching import joules_so_far, watch
from nvp_agentkit.client.forecast import Axes, Forecast
from nvp_agentkit.errors import InvalidInput
from nvp_agentkit.lineage import catalogue
from nvp_agentkit.lineage.catalogue import Entry
from nvp_agentkit.lineage.graph import Graph
from nvp_agentkit.messages import TRIVIAL, ForecasterScore, JobCompleted

if TYPE_CHECKING:
    from numpy.typing import NDArray


LOST = 99  # times what is there in a band: there is nothing


@dataclass(frozen=True)
class Evaluation:
    """A finished evaluation: of what, what came out, the maps to look at."""

    entry: Entry
    done: JobCompleted
    maps: dict[str, NDArray[np.float32]]
    origin: Origin

    def document(self, picture: Path) -> dict[str, Any]:
        """For a program."""
        about = self.done.summary
        return {
            "id": self.entry.dataset.id,
            "domain": self.entry.domain,
            **about,
            "scores": [score.model_dump() for score in self.done.scores],
            "energy": self.done.energy.model_dump(),
            "picture": str(picture),
        }

    def table(self) -> Table:
        """For a person: a forecaster a line, the best first."""
        bands = list(self.done.scores[0].bands)
        columns = ("forecaster", "VRMSE", "95% interval", "H1", *bands, "total", "covers", "sigma/error", "CPU ms")
        found = Table(*columns, box=None, pad_edge=False, padding=(0, 2, 0, 0))
        for score in self.done.scores:
            style = "bold" if score is self.done.scores[0] else ""
            found.add_row(*_cells(score, bands), style=style)
        return found

    def facts(self) -> list[str]:
        """What the table means, one fact a line."""
        about, (best, second, *_) = self.done.summary, self.done.scores
        behind = f"{100 * (second.vrmse / best.vrmse - 1):.1f}% behind" if best.vrmse else f"at {second.vrmse:.4f}"
        return [
            f"best: {best.name}; the next, {second.name}, is {behind} by VRMSE",
            f"one frame ahead, held out {about['held_out_by']}: {about['held_out_trajectories']} x "
            f"{about['held_out_frames']} frames; intervals by {about['interval_by']}",
            "VRMSE, H1 and bands of wavenumber: 0 is perfect, 1 as good as each map's mean; total: error of the map's "
            "sum; covers: share of truth in the 90% interval",
        ]

    def draw(self, path: Path) -> None:
        """The picture of one held-out frame, as the best forecaster told it."""
        about, maps = self.done.summary, self.maps
        name = f"{TRIVIAL}:{about['best']}"
        forecast = Forecast(
            request_id=self.done.job_id,
            domain=self.entry.domain,
            field_digest=self.entry.ref.digest,
            mean=maps["mean"],
            log_var=maps["log_var"],
            units=str(about["units"]),
            axes=Axes(),
            energy=self.done.energy,
            models={TRIVIAL: name},
        )
        domain = self.entry.domain.replace("_", " ")
        title = f"{domain}: frame {about['shown_frame']} of trajectory {about['shown_trajectory']}, by {about['best']}"
        valid = maps["valid"] > 0 if "valid" in maps else None
        draw(path, maps["last"], forecast, title=title, truth=maps["truth"], valid=valid, origin=self.origin)


def _cells(score: ForecasterScore, bands: list[str]) -> list[str]:
    known = score.vrmse_low is not None and score.vrmse_high is not None
    return [
        score.name,
        f"{score.vrmse:.4f}",
        f"{score.vrmse_low:.4f} to {score.vrmse_high:.4f}" if known else "unknown",
        f"{score.h1:.4f}",
        *(f"{score.bands[band]:.3f}" if score.bands[band] < LOST else f">{LOST}" for band in bands),
        f"{100 * score.budget_error:.2f}%",
        f"{100 * score.coverage_90:.0f}%",
        f"{score.spread_skill:.2f}",
        f"{1000 * score.cpu_s:.1f}",
    ]


async def evaluate(order: Order, name: str) -> Evaluation:
    """Score every trivial forecaster on the held-out part of the dataset ``name``."""
    async with order.client() as (nvp, there):
        async with Graph.connect(there) as graph:
            entry = await catalogue.find(graph, name)
        job = await nvp.evaluate(entry.domain, data=entry.ref, budget_j=order.budget_j)
        done = await watch(job, console(stderr=True), joules_so_far)
        artifacts = Artifacts.from_settings(there)
        maps = {key: np.asarray(await artifacts.get_array(ref), np.float32) for key, ref in done.arrays.items()}
        facts = (await meta(artifacts, entry.ref))["provenance"]
    return Evaluation(entry, done, maps, origin_of(facts))


def picture_path(out: Path | None, dataset: str, of_what: str) -> Path:
    """Where the picture goes, by default ``dataset`` and ``of_what`` as a name; looked at before anything is paid for.

    Raises:
        InvalidInput: no .png, or no such folder.
    """
    path = out or Path(f"{dataset.rpartition(':')[2][:40]}{of_what}.png")
    if path.suffix != ".png":
        raise InvalidInput(f"{path}: the picture is a PNG; give a name that ends in .png")
    if not path.parent.is_dir():
        raise InvalidInput(f"{path}: there is no folder {path.parent}; make it first")
    return path
