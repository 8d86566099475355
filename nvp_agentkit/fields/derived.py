"""The energy of a state of several channels, and these: a file's own, or by ``=`` and a formula where none has it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, cast

import numpy as np

from nvp_agentkit.arrayfile import OpenArray, open_array
from nvp_agentkit.errors import InvalidFile
from nvp_agentkit.fields.sequence import Boundary, FieldMeta, Floats

if TYPE_CHECKING:
    from nvp_agentkit.fields.formula import Formula

SIGN = "="
MOST_CHANNELS = 16


@contextmanager
def open_field(
    path: Path, array: str | None = None, *, dt_s: float | None = None, dx_m: float | None = None
) -> Iterator[OpenArray]:
    """As `open_array`, with the channels that the file names beside its energy, as those do that we write.

    ``array`` = ``"energy,n,phi"``: the energy and its channels are these arrays. ``"=(n**2 + grad2(phi)) / 2"``: energy
    is that of the file's n and phi, which are its channels; its units are for the user to say, boundary and distances
    are those of the first channel by name, and the formula is among the facts.

    Raises:
        InvalidFile: as `open_array`, or channels of unlike shape.
        InvalidInput: no formula.
    """
    with ExitStack() as files:

        def opened(name: str | None) -> OpenArray:
            return files.enter_context(open_array(path, name, dt_s=dt_s, dx_m=dx_m))

        if array is not None and array.startswith(SIGN):
            from nvp_agentkit.fields.formula import Formula  # loads JAX, which a file of one array has no use for

            formula = Formula.read(array.removeprefix(SIGN))
            yield _derived(f"{path.name}:{array}", formula, {name: opened(name) for name in formula.channels})
            return
        energy, _, named = (array or "").partition(",")
        found = opened(energy or None)
        names = named.split(",") if named else found.meaning.channels
        if len(names) > MOST_CHANNELS:
            raise InvalidFile(f"{found.name}: {len(names)} channels, limit {MOST_CHANNELS}; keep fewer of them")
        channels = {name.rpartition("/")[2]: opened(name) for name in names}
        _check_alike(found.name, {"energy": found, **channels})
        yield replace(found, channels=channels)


def _check_alike(name: str, arrays: dict[str, OpenArray]) -> None:
    if len({one.shape for one in arrays.values()}) > 1:
        shapes = ", ".join(f"{channel} {one.shape}" for channel, one in arrays.items())
        raise InvalidFile(f"{name}: channels of unlike shape ({shapes}); give fields on one grid and of equal length")


def _derived(name: str, formula: Formula, channels: dict[str, OpenArray]) -> OpenArray:
    first = channels[formula.channels[0]]
    _check_alike(name, channels)
    meaning = first.meaning
    boundary = cast("tuple[Boundary, Boundary]", meaning.boundary or ("open", "open"))
    meta = FieldMeta("", dx_m=meaning.dx_m or 1.0, boundary=boundary)

    def read(trajectory: int, start: int, count: int) -> Floats:
        seen = {channel: one.window(trajectory, start, count) for channel, one in channels.items()}
        energy = formula.energy(seen, meta)
        infinite = np.logical_or.reduce([np.isinf(values) for values in seen.values()])
        # Division by zero is a missing value; what was infinite in the file stays so, and is refused as such.
        return np.where(infinite, np.float32(np.inf), np.where(np.isinf(energy), np.float32(np.nan), energy))

    facts = {**meaning.facts, "energy": formula.text}
    together = max(one.frames_together for one in channels.values())
    return OpenArray(name, first.shape, replace(meaning, units=None, facts=facts), together, read, channels)
