"""``nvp predict``: the next frame of a field in a file, through the same door as an agent."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from nvp_agentkit.cli import deployment
from nvp_agentkit.cli.options import AsJson, DataDir, say_json

if TYPE_CHECKING:
    from nvp_agentkit.cli.frames import Frames
    from nvp_agentkit.client import Forecast
    from nvp_agentkit.settings import Settings


THE_FILES = "the file's"
Data = Annotated[str, typer.Option(help="NetCDF, HDF5, Zarr, .npz or .npy; which array of it.", metavar="FILE[:NAME]")]
Domain = Annotated[str, typer.Option(help="Whose ensemble answers.", metavar="NAME")]
Units = Annotated[str, typer.Option(help="Units of the values; 1: the file's, else those that the models learnt.")]
Assurance = Annotated[
    Literal["single", "quorum"], typer.Option(help="One model's word, or a certified agreement of 2/3.")
]
Model = Annotated[
    str | None,
    typer.Option(help="A model id; `trivial`, `starter` need no training.", metavar="ID", show_default="the champion"),
]
Budget = Annotated[float, typer.Option("--budget-j", help="Joules it may cost.", metavar="J")]
Account = Annotated[
    str | None, typer.Option(help="Who pays.", metavar="NAME", show_default="NVP_ACCOUNT, else the only one here")
]
Frame = Annotated[
    int | None,
    typer.Option(help="Forecast this frame of the file and compare.", metavar="N", show_default="the next one"),
]
Trajectory = Annotated[int, typer.Option(help="Which of N trajectories.", metavar="N")]
Fill = Annotated[
    float | None, typer.Option(help="Put this where a cell is NaN.", metavar="VALUE", show_default="refuse")
]
Time = Annotated[
    str | None,
    typer.Option(help="Time of the last frame shown, ISO 8601 with a zone.", metavar="TIME", show_default=THE_FILES),
]
Seconds = Annotated[
    float | None, typer.Option("--dt-s", help="Seconds between frames.", metavar="S", show_default=THE_FILES)
]
Metres = Annotated[
    float | None, typer.Option("--dx-m", help="Metres between cells.", metavar="M", show_default=THE_FILES)
]
Out = Annotated[
    list[Path] | None,
    typer.Option(help="Write .nc, .zarr, .npz, .png or, of a quorum, .json; may be given often.", metavar="FILE"),
]


def command(
    data: Data,
    domain: Domain,
    units: Units = "1",
    assurance: Assurance = "single",
    model: Model = None,
    budget_j: Budget = 5.0,
    account: Account = None,
    frame: Frame = None,
    trajectory: Trajectory = 0,
    fill: Fill = None,
    time: Time = None,
    dt_s: Seconds = None,
    dx_m: Metres = None,
    out: Out = None,
    data_dir: DataDir = None,
    as_json: AsJson = False,
) -> None:
    """Forecast the next frame of a field in a file.

    Shows the file's last three frames, eight of up to 256x256 cells, to the running stack, under an account that is
    there already. With --frame it forecasts a frame that the file has, from those before it, and says how far off it
    was.

    [dim]Examples:[/dim] nvp predict --data rain.npz --domain rain --units mm/h --model trivial --out rain.png  ·  nvp
    predict --data field.npy --domain plasma_physics --assurance quorum --out forecast.nc
    """
    from nvp_agentkit.cli import outputs
    from nvp_agentkit.cli.frames import read_frames

    files = out or []
    outputs.check(files, assurance)
    settings = deployment.settings_for(data_dir)
    frames = read_frames(data, frame=frame, trajectory=trajectory, fill=fill)
    wanted = {"domain": domain, "assurance": assurance, "model": model, "budget_j": budget_j}
    agreed = frames.meaning.agreed_units(None if units == "1" else units, frames.source)
    words = {"units": agreed, "frame_time": _time(time), "dt_s": dt_s, "dx_m": dx_m}
    given = {name: value for name, value in words.items() if value is not None}
    forecast = _ask(settings, account, frames, **wanted, **(frames.said | given))
    for path in files:
        outputs.write(path, forecast, frames)
    told = Told(forecast, frames, files)
    if as_json:
        say_json(told.document())
    else:
        typer.echo("\n".join(told.lines()))


@dataclass(frozen=True)
class Told:
    """What is said of a forecast."""

    forecast: Forecast
    frames: Frames
    files: list[Path]

    def lines(self) -> list[str]:
        """In words, one fact a line."""
        from nvp_agentkit.client.units import with_units

        forecast, frames = self.forecast, self.frames
        lines = [f"frame {frames.target} of {frames.source}: {forecast}"]
        if (score := self._score()) is not None:
            missed = with_units(f"{score['rmse']:.4g}", forecast.units)
            lines.append(
                f"  missed by {missed} (RMSE), persistence by {score['persistence']:.4g}: skill {score['skill']:+.3f}"
            )
        if forecast.ood is not None:
            doubt = "; unfamiliar, so sigma may be too small" if forecast.unfamiliar else ""
            lines.append(f"  more unlike the training data than {100 * forecast.ood:.0f}% of held-out fields{doubt}")
        lines.append(f"  request {forecast.request_id}; `nvp lineage` tells where it comes from")
        return [*lines, *(f"  wrote {path}" for path in self.files)]

    def document(self) -> dict[str, Any]:
        """For a program."""
        forecast, frames = self.forecast, self.frames
        return {
            "request_id": forecast.request_id,
            "source": frames.source,
            "frame": frames.target,
            "domain": forecast.domain,
            "shape": list(forecast.mean.shape),
            "units": forecast.units,
            "assurance": forecast.assurance,
            "trained": forecast.trained,
            "ood": forecast.ood,
            "models": forecast.models,
            "agreed": forecast.agreed,
            "dissent": forecast.dissent,
            "energy": forecast.energy.model_dump(),
            "mean": _summary(forecast.mean[frames.valid]),
            "sigma": _summary(forecast.std[frames.valid]),
            "score": self._score(),
            "files": [str(path) for path in self.files],
        }

    def _score(self) -> dict[str, float] | None:
        from nvp_agentkit.cli.frames import rmse

        truth, valid = self.frames.truth, self.frames.valid
        if truth is None:
            return None
        missed, stayed = rmse(self.forecast.mean, truth, valid), rmse(self.frames.last, truth, valid)
        return {"rmse": missed, "persistence": stayed, "skill": 1 - missed / stayed if stayed > 0 else 0.0}


def _ask(settings: Settings, account: str | None, frames: Frames, **wanted: Any) -> Forecast:
    from nvp_agentkit.cli import payer
    from nvp_agentkit.client import SyncAgentClient

    with SyncAgentClient.connect(account or payer.only_account(settings), settings=settings) as nvp:
        return nvp.predict(frames.shown, **wanted)


def _time(text: str | None) -> datetime | None:
    from nvp_agentkit.errors import InvalidInput

    if text is None:
        return None
    try:
        return datetime.fromisoformat(text)
    except ValueError as error:
        raise InvalidInput(f"--time {text!r} is no time; give one as 2019-06-10T12:00Z") from error


def _summary(values: Any) -> dict[str, float]:
    return {"min": float(values.min()), "mean": float(values.mean()), "max": float(values.max())}
