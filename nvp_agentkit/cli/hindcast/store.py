"""A hindcast as a Zarr store, written part by part so that a kill at any moment costs one part.

It grows in ``FOLDER.partial``: in ``store`` the Zarr store itself, in ``begun.json`` what it is of and how many parts
are on disk. Parts after these are written again, which gives the same bytes. When all is there, the store is renamed to
its place: what lies there is whole.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import numpy as np

from nvp_agentkit.artifacts.folder import sync
from nvp_agentkit.client.cf import EPOCH, about
from nvp_agentkit.errors import InvalidInput, StoreUnavailable

if TYPE_CHECKING:
    import zarr
    from numpy.typing import NDArray

    from nvp_agentkit.messages.hindcasts import Manifest, Skill

AXES = ("trajectory", "start", "lead", "y", "x")
PREFIX = "nvp_"  # of attributes that CF does not know


@dataclass(frozen=True)
class Begun:
    """What a store is of. ``source``: digest of the file and how it is read."""

    source: str
    domain: str
    steps: int
    every: int
    model: str
    ensemble: str
    data: str
    work: str

    @classmethod
    def of(cls, manifest: Manifest, source: str) -> Self:
        return cls(
            source, manifest.domain, manifest.steps, manifest.every, manifest.model, manifest.ensemble, manifest.data,
            manifest.work,
        )  # fmt: skip

    def facts(self) -> dict[str, Any]:
        return asdict(self)

    def require(self, path: Path, same: dict[str, Any], model: str | None) -> None:
        """Raises `InvalidInput` unless the store is of what is asked for now."""
        for name, value in same.items():
            if getattr(self, name) != value:
                raise _other(path, name, getattr(self, name), value)
        if model not in (None, self.model, self.ensemble):
            raise _other(path, "model", self.model, model)


@dataclass(frozen=True)
class Place:
    """Where a store is to lie."""

    path: Path

    @property
    def partial(self) -> Path:
        return self.path.with_name(f"{self.path.name}.partial")

    @property
    def growing(self) -> Path:
        return self.partial / "store"

    @property
    def progress(self) -> Path:
        return self.partial / "begun.json"

    def begun(self) -> Begun | None:
        """What lies there already, whole or begun.

        Raises:
            InvalidInput: something that no hindcast has written.
        """
        try:
            if self.path.exists():
                attributes = json.loads((self.path / "zarr.json").read_bytes())["attributes"]
                return Begun(**{name: attributes[PREFIX + name] for name in Begun.__dataclass_fields__})
            if self.progress.exists():
                return Begun(**json.loads(self.progress.read_bytes())["begun"])
        except (OSError, LookupError, TypeError, ValueError) as error:
            raise InvalidInput(f"{self.path} holds something else than a hindcast; write elsewhere") from error
        return None

    def require_ours(self) -> None:
        """Raises `InvalidInput` where something lies in ``FOLDER.partial`` that no hindcast has put there."""
        found = {path.name for path in self.partial.iterdir()} if self.partial.exists() else set()
        if strangers := found - {self.growing.name, self.progress.name, self.progress.with_suffix(".new").name}:
            raise InvalidInput(f"{self.partial} holds {min(strangers)}, which is of no hindcast; write elsewhere")

    def clear(self) -> None:
        """Remove what a kill just before the end has left beside a store that is whole."""
        shutil.rmtree(self.partial, ignore_errors=True)


class Store:
    """A store that grows."""

    def __init__(self, place: Place, manifest: Manifest, begun: Begun, parts: int) -> None:
        self.parts = parts
        self._place, self._manifest, self._begun = place, manifest, begun

    @classmethod
    def open(cls, place: Place, manifest: Manifest, begun: Begun) -> Self:
        """Begin, or go on with what an earlier call has begun.

        Raises:
            InvalidInput: that is of another work.
            StoreUnavailable: the disk is full or denies it.
        """
        with _writing(place):
            if place.progress.exists():
                said = json.loads(place.progress.read_bytes())
                if said["begun"]["work"] != begun.work:
                    raise _other(place.path, "work", said["begun"]["work"], begun.work)
                return cls(place, manifest, begun, said["parts"])
            place.require_ours()
            place.clear()
            place.growing.mkdir(parents=True)
            made = cls(place, manifest, begun, 0)
            made._describe()
            made._note()
            return made

    def add(self, number: int, mean: NDArray[Any], std: NDArray[Any]) -> None:
        """The next part, on disk before it counts. Raises `StoreUnavailable` as `open`."""
        trajectory, first, size = self._manifest.place(number)
        with _writing(self._place, number, self._manifest.parts_in_all):
            group: Any = self._group()
            for name, values in (("mean", mean), ("std", std)):
                group[name][trajectory, first : first + size] = values
                chunk = self._place.growing / name / "c" / f"{trajectory}" / f"{first // self._manifest.together}"
                for path in (*chunk.rglob("*"), chunk, *chunk.parents[:3]):
                    sync(path)
            self.parts = number + 1
            self._note()

    def finish(self) -> None:
        """The scores, then the store's own name."""
        with _writing(self._place):
            steps = self._manifest.steps
            scores = {one.lead: one for one in self._manifest.skill()}
            for name, what, of in SCORES:
                values = np.array([of(scores[lead]) if lead in scores else np.nan for lead in range(1, steps + 1)])
                _coordinate(self._group(), name, ("lead",), values, {"long_name": what, "units": "1"})
            for path in (*self._place.growing.rglob("*"), self._place.growing):
                sync(path)
            self._place.growing.rename(self._place.path)
            sync(self._place.path.parent)
        self._place.clear()

    def _group(self) -> zarr.Group:
        import zarr

        return zarr.open_group(self._place.growing, mode="r+")

    def _describe(self) -> None:
        """All but forecasts and scores."""
        import zarr

        work = self._manifest
        group = zarr.open_group(self._place.growing, mode="w", zarr_format=3, attributes=_attributes(self._begun))
        shape = (work.trajectories, work.starts, work.steps, work.height, work.width)
        for name, what in (("mean", "mean"), ("std", "standard deviation")):
            said: dict[str, Any] = about(work.domain, work.units, what) | {"coordinates": "lead_time reference_time"}
            group.create_array(
                name, shape=shape, chunks=(1, work.together, *shape[2:]), dtype="float32", fill_value=float("nan"),
                attributes=said, dimension_names=AXES, config={"write_empty_chunks": True},
            )  # fmt: skip
        for name, axes, values, said in _coordinates(work):
            _coordinate(group, name, axes, values, said)

    def _note(self) -> None:
        """Say what is on disk."""
        said = {"begun": self._begun.facts(), "parts": self.parts}
        fresh = self._place.progress.with_suffix(".new")
        with fresh.open("w") as file:
            json.dump(said, file)
            file.flush()
            os.fsync(file.fileno())
        fresh.replace(self._place.progress)
        sync(self._place.partial)


SCORES: tuple[tuple[str, str, Callable[[Skill], float]], ...] = (
    ("vrmse", "root mean square error over the truth's spatial standard deviation", lambda one: one.vrmse),
    ("vrmse_persistence", "the same of persistence", lambda one: one.persistence),
    ("vrmse_best", "the same of the best trivial forecaster", lambda one: one.best_vrmse),
    ("skill_over_persistence", "1 - vrmse / vrmse_persistence", lambda one: one.over_persistence),
    ("skill_over_best", "1 - vrmse / vrmse_best", lambda one: one.over_best),
)


def _attributes(begun: Begun) -> dict[str, Any]:
    """Nothing that differs between two runs of one work."""
    said = {PREFIX + name: value for name, value in begun.facts().items()}
    return {
        "Conventions": "CF-1.11",
        "title": f"Hindcast of {begun.domain}, {begun.steps} frames ahead",
        "source": begun.model,
        **said,
    }


def _coordinates(work: Manifest) -> Iterator[tuple[str, tuple[str, ...], NDArray[Any], dict[str, Any]]]:
    """Each with its name, axes, values and attributes."""
    frames = np.array([work.frame(start) for start in range(work.starts)], np.int64)
    leads = np.arange(1, work.steps + 1)
    counted = {"units": "1"}
    yield "trajectory", ("trajectory",), np.arange(work.trajectories), counted
    yield "start", ("start",), frames, counted | {"long_name": "the newest frame that was shown, from 0"}
    yield "lead", ("lead",), leads, counted | {"long_name": "lead time in frames"}
    yield "lead_time", ("lead",), work.dt_s * leads, {"standard_name": "forecast_period", "units": "s"}
    since = {"units": EPOCH, "standard_name": "forecast_reference_time", "calendar": "standard"}
    times = since if work.start_ms else {"units": "s", "long_name": "time since the first frame"}
    yield "reference_time", ("start",), work.start_ms / 1000 + work.dt_s * frames, times
    for name, side in (("y", work.height), ("x", work.width)):
        places = work.dx_m * np.arange(side)
        said = {"units": "m", "axis": name.upper(), "long_name": f"distance along {name}"}
        yield name, (name,), places[::-1] if name == "y" and work.rows_descend else places, said


def _coordinate(
    group: zarr.Group, name: str, axes: tuple[str, ...], values: NDArray[Any], said: dict[str, Any]
) -> None:
    group.create_array(name, data=np.ascontiguousarray(values), attributes=said, dimension_names=axes, overwrite=True)


@contextmanager
def _writing(place: Place, part: int | None = None, parts: int | None = None) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        where = "" if part is None else f" part {part + 1} of {parts}"
        raise StoreUnavailable(
            f"cannot write{where} to {place.partial}: {error.strerror or error}; make room there and give the same "
            "command again: it goes on from there, and what was forecast is not paid for again"
        ) from error


def _other(path: Path, name: str, lies: object, asked: object) -> InvalidInput:
    return InvalidInput(
        f"{path} is a hindcast with {name}={lies}, and {name}={asked} is asked for; remove it or write elsewhere"
    )
