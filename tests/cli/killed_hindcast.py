"""``python -m tests.cli.killed_hindcast FOLDER``: write one hindcast over and over, killed at ever later moments.

In ``FOLDER/whole.zarr`` as nothing disturbed it; in ``FOLDER/K.zarr`` killed at the K-th time that something was about
to be on disk, and then gone on with. The moments are those between which the disk changes for good.
"""

from __future__ import annotations

import os
import signal
import sys
from itertools import count
from pathlib import Path

import numpy as np
import zarr  # noqa: F401  once, and not in each process

from nvp_agentkit.cli.hindcast.store import Begun, Place, Store
from nvp_agentkit.messages.hindcasts import MODEL, Manifest, Part

STRIDE = 11  # moments between two kills: each costs a process
DIGEST = "sha256:" + "0" * 64


def manifest() -> Manifest:
    """One trajectory of three starts, two a part."""
    return Manifest(
        work=DIGEST, domain="rain", data=DIGEST, model="model:x", ensemble=DIGEST, steps=2, every=1, trajectories=1,
        frames=6, height=16, width=16, units="mm/h", dt_s=60.0, dx_m=1.0, start_ms=0, first=1, starts=3, together=2,
        parts=(Part(mean=DIGEST, std=DIGEST),) * 2, missed={MODEL: (1.0, 2.0), "persistence": (2.0, 3.0)},
        spread=(4.0, 4.0), judged=3,
    )  # fmt: skip


def write(path: Path) -> None:
    work, place = manifest(), Place(path)
    if path.exists():
        place.clear()
        return
    store = Store.open(place, work, Begun.of(work, DIGEST))
    for number in range(store.parts, len(work.parts)):
        shape = (work.place(number).size, work.steps, work.height, work.width)
        mean = np.random.default_rng(number).random(shape, np.float32)
        store.add(number, mean, 1 + mean)
    store.finish()


def killed_at(moment: int) -> None:
    """From now on this process ends at its ``moment``-th `os.fsync`, before it."""
    moments, sync = count(), os.fsync

    def counted(file: int) -> None:
        if next(moments) == moment:
            os.kill(os.getpid(), signal.SIGKILL)
        sync(file)

    os.fsync = counted


def in_a_process(path: Path, moment: int | None = None) -> bool:
    """Whether it came to its end; not killed, it must."""
    child = os.fork()
    if child == 0:
        if moment is not None:
            killed_at(moment)
        write(path)
        os._exit(0)
    _, status = os.waitpid(child, 0)
    if moment is None and status:
        sys.exit(f"{path} was not ended after a kill")
    return status == 0


def main(folder: Path) -> None:
    in_a_process(folder / "whole.zarr")
    for moment in count(0, STRIDE):
        path = folder / f"{moment}.zarr"
        if in_a_process(path, moment):
            return
        in_a_process(path)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
