"""Frames of a dataset, of which no others are read."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from nvp_agentkit.errors import InvalidInput, MissingExtra


def frames_of(path: Path, trajectory: int, first: int, count: int, *, filled: bool) -> NDArray[np.float32]:
    """Shape (count, H, W); NaN where nothing was observed, unless ``filled``.

    Raises:
        InvalidInput: the dataset has no such trajectory or frames.
        MissingExtra: safetensors is not installed.
    """
    try:
        from safetensors import safe_open
    except ImportError as error:
        raise MissingExtra.of("safetensors", extra="model") from error
    with safe_open(path, framework="numpy") as file:
        values = file.get_slice("values")
        trajectories, frames = values.get_shape()[:2]
        if not (0 <= trajectory < trajectories and 0 <= first < first + count <= frames):
            raise InvalidInput(
                f"trajectory {trajectory}, frames {first} to {first + count}: "
                f"the dataset has {trajectories} trajectories of {frames} frames"
            )
        found: NDArray[np.float32] = values[trajectory, first : first + count]
        if "mask" in file.keys() and not filled:  # noqa: SIM118 - it is no mapping
            found[file.get_slice("mask")[trajectory, first : first + count] == 0] = np.nan
    return found
