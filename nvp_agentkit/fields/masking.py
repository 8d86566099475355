"""What to put where nothing was observed, so that arithmetic has a number there. Such cells are never scored."""

from __future__ import annotations

import cv2
import numpy as np

from nvp_agentkit.fields.sequence import Floats, Mask


def fill_invalid(frames: Floats, mask: Mask | None) -> Floats:
    """``frames`` (T, H, W), cells outside ``mask`` filled: with the last value observed there, else from around.

    Uses no later frame, so a forecast from filled frames knows nothing of the future. Observed cells are untouched.
    """
    if mask is None or mask.all():
        return frames
    filled = np.where(mask, frames, np.float32(0))
    known = mask[0]
    filled[0] = _fill_from_around(filled[0], known)
    for now in range(1, len(frames)):
        filled[now] = np.where(~mask[now] & known, filled[now - 1], filled[now])
        known = known | mask[now]
        filled[now] = _fill_from_around(filled[now], known)
    return filled


def _fill_from_around(frame: Floats, known: Mask) -> Floats:
    """Pull-push: unknown cells take the mean of ever wider surroundings, smoothly."""
    if known.all() or not known.any():
        return frame
    height, width = frame.shape
    padding = ((0, height % 2), (0, width % 2))
    weight = _sum_of_four(np.pad(known, padding).astype(np.float32))
    total = _sum_of_four(np.pad(np.where(known, frame, 0), padding).astype(np.float32))
    coarse = _fill_from_around(np.asarray(total / np.maximum(weight, 1), np.float32), weight > 0)
    around = cv2.resize(coarse, (2 * coarse.shape[1], 2 * coarse.shape[0]), interpolation=cv2.INTER_LINEAR)
    return np.where(known, frame, around[:height, :width])


def _sum_of_four(cells: Floats) -> Floats:
    height, width = cells.shape
    total: Floats = cells.reshape(height // 2, 2, width // 2, 2).sum((1, 3))
    return total
