"""Data of the reference task: E from an artifacts folder, density made once and kept, stand-ins for a quick run."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

from benchmarks.cells import KEPT
from benchmarks.verdict import BrokenError
from nvp_agentkit.domains.hasegawa_wakatani import Parameters
from nvp_agentkit.domains.reference import reference
from nvp_agentkit.fields.sequence import SequenceSet
from nvp_agentkit.fields.storage import open_sequences, save
from nvp_agentkit.reference_task import PARTS, SPLIT_NAMES, Split

STAND_IN = replace(Parameters.for_size(32), spin_up=4.0)


class Splits(NamedTuple):
    """``digests`` are those of the three files, in this order; stand-ins have none."""

    train: SequenceSet
    validation: SequenceSet
    test: SequenceSet
    digests: tuple[str, ...]


def energy(artifacts: Path | None) -> Splits:
    """What `nvp atlas make --reference` left in the folder ``artifacts``."""
    found = []
    for split in SPLIT_NAMES:
        digest = PARTS[split].digest.removeprefix("sha256:")
        path = (artifacts or Path()) / "sha256" / digest[:2] / digest[2:]
        if artifacts is None or not path.is_file():
            raise BrokenError(f"no {split} data of the reference task; make them with `nvp atlas make --reference` "
                              "and name the artifacts folder with --data")  # fmt: skip
        found.append(open_sequences(path))
    return _splits(found, [PARTS[split].digest for split in SPLIT_NAMES])


def density() -> Splits:
    """The same trajectories shown by their density; what is not there is made, some minutes a split."""
    paths = [_density_file(split) for split in SPLIT_NAMES]
    digests = []
    for split, path in zip(SPLIT_NAMES, paths, strict=True):
        with path.open("rb") as stored:
            digests.append(f"sha256:{hashlib.file_digest(stored, 'sha256').hexdigest()}")
        if digests[-1] != PARTS[split].density:
            print(f"density, {split}: {digests[-1]}, other bytes than those pinned", flush=True)
    return _splits(map(open_sequences, paths), digests)


def _density_file(split: Split) -> Path:
    path = KEPT / f"reference-density-{split}"
    if not path.is_file():
        KEPT.mkdir(parents=True, exist_ok=True)
        print(f"density, {split}: simulating", flush=True)
        made = path.with_suffix(".partial")
        save(reference(split, density=True), made)
        made.rename(path)
    return path


def stand_ins(*, density: bool) -> Splits:
    """Fields of 32x32 cells, seven frames each."""
    made = (reference(split, size=32, frames=7, parameters=STAND_IN, density=density) for split in SPLIT_NAMES)
    return _splits(made, ())


def _splits(three: Iterable[SequenceSet], digests: Iterable[str]) -> Splits:
    train, validation, test = three
    return Splits(train, validation, test, tuple(digests))
