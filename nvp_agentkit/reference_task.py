"""The project's reference task in numbers: what is asked for, and what came of it where it was pinned.

Modified Hasegawa-Wakatani on 256x256 cells; `domains.reference` has the physics. Models are compared on it: what one
chooses, it chooses on "train" and "validation" alone.
"""

from __future__ import annotations

from typing import Literal, NamedTuple, get_args

Split = Literal["train", "validation", "test"]
SPLIT_NAMES: tuple[Split, ...] = get_args(Split)
DOMAIN, SIZE, FRAMES = "plasma_physics", 256, 101


class Part(NamedTuple):
    """One split: so many trajectories of a seed. ``digest`` is that of its dataset, sha256 of the stored bytes."""

    trajectories: int
    seed: int
    digest: str | None = None


PARTS: dict[Split, Part] = {
    "train": Part(8, 1001),
    "validation": Part(2, 1002),
    "test": Part(4, 1003),
}
PINNED_ON = "not pinned yet"
