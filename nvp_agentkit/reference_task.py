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


# Of seed 1001 one trajectory outruns the protocol's time step (Courant number 8) and is refused.
PARTS: dict[Split, Part] = {
    "train": Part(8, 1004, "sha256:400fdb82cbe6457ab16b6a5b0a7ac47a58ff5a0efa8c4e14fb1d90721da4434c"),
    "validation": Part(2, 1002, "sha256:5a6dd6c3dc41ba726db52b6a2403901469fe5d04d78513b16049d3493491956b"),
    "test": Part(4, 1003, "sha256:a0b4121bed6d93e565d4da920bb0030b8fc41675826d1e9c398a1cb723c60fe7"),
}
PINNED_ON = "an Intel Xeon with 2 threads, jax and jaxlib 0.10.2, numpy 2.4.6"
