"""Frames that are in two sets at once: what was taught must not judge."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping

import numpy as np

from nvp_agentkit.errors import InvalidField
from nvp_agentkit.fields.sequence import SequenceSet

DIGEST_BYTES = 16


def require_apart(parts: Mapping[str, SequenceSet]) -> None:
    """Refuse sets that share a frame, by content: the observed values, whatever stands in the holes.

    A frame that is the same everywhere, such as a map without rain, tells nothing and may be anywhere.

    Raises:
        InvalidField: names the first such frame, and how many of that set there are.
    """
    seen: dict[bytes, tuple[str, int, int]] = {}
    for name, part in parts.items():
        mine = list(frame_digests(part))
        if shared := [one for one in mine if one[0] in seen]:
            digest, trajectory, frame = shared[0]
            other, number, earlier = seen[digest]
            raise InvalidField(
                f"frame {frame} of {name} trajectory {trajectory} is frame {earlier} of {other} trajectory {number} as "
                f"well, like {len(shared) - 1} more: what was taught would judge; bring each stretch of time once"
            )
        seen |= {digest: (name, trajectory, frame) for digest, trajectory, frame in mine}


def frame_digests(sequences: SequenceSet) -> Iterator[tuple[bytes, int, int]]:
    """(digest, trajectory, frame) of every frame that is not the same everywhere."""
    for number, trajectory in enumerate(sequences):
        for frame, values in enumerate(trajectory.values):
            there = None if trajectory.mask is None else trajectory.mask[frame]
            observed = values if there is None else values[there]
            if observed.size == 0 or observed.min() == observed.max():
                continue
            digest = hashlib.blake2b(np.ascontiguousarray(observed, "<f4").tobytes(), digest_size=DIGEST_BYTES)
            if there is not None:
                digest.update(np.packbits(there).tobytes())
            yield digest.digest(), number, frame
