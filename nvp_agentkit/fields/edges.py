"""What a field does at its edges, guessed from the field alone where nobody has said it."""

from __future__ import annotations

import numpy as np

from nvp_agentkit.fields.sequence import Boundary, Floats

ACROSS_THE_EDGE = 2.0  # times the step between neighbours: a larger one is no continuation


def guessed_edges(frames: Floats) -> tuple[Boundary, Boundary]:
    """Of frames (K, H, W): periodic where they go on across the edge as smoothly as they do inside, else open."""
    return _edge(frames, 1), _edge(frames, 2)


def _edge(frames: Floats, axis: int) -> Boundary:
    inside = np.diff(frames, axis=axis)
    across = frames.take(0, axis) - frames.take(-1, axis)
    smooth = np.mean(across**2) <= ACROSS_THE_EDGE**2 * np.mean(inside**2)
    return "periodic" if smooth else "open"
