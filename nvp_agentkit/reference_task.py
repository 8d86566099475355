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
    """One split: so many trajectories of a seed. Digests are sha256 of the stored bytes, of E and of the density."""

    trajectories: int
    seed: int
    digest: str
    density: str


# Of seed 1001 one trajectory outruns the protocol's time step (Courant number 8) and is refused.
PARTS: dict[Split, Part] = {
    "train": Part(
        8,
        1004,
        digest="sha256:400fdb82cbe6457ab16b6a5b0a7ac47a58ff5a0efa8c4e14fb1d90721da4434c",
        density="sha256:46ad4a0ed50c40fe28bca8531c7791fab86f59807feb22088fcb9057bb198432",
    ),
    "validation": Part(
        2,
        1002,
        digest="sha256:5a6dd6c3dc41ba726db52b6a2403901469fe5d04d78513b16049d3493491956b",
        density="sha256:0f97aad331d585e5627bb30673420d2e1f4d6b3441af891a0ab1572383a3cf50",
    ),
    "test": Part(
        4,
        1003,
        digest="sha256:a0b4121bed6d93e565d4da920bb0030b8fc41675826d1e9c398a1cb723c60fe7",
        density="sha256:0148279dd49c4fd2a40ddc785c5a8df6fe9bf654c296fccca28f007ec721a2f5",
    ),
}
PINNED_ON = "an Intel Xeon with 2 threads, jax and jaxlib 0.10.2, numpy 2.4.6"
