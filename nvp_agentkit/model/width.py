"""Networks of unlike width in one shape: the channels that a narrow one lacks are there, and zero.

GELU keeps zero at zero and no layer mixes channels but by weights, so the weights to and from an absent channel get no
gradient, from the first step to the last: the network *is* the narrow one. Its program is the wide one's, which
compiles once for all members of an ensemble (10 CPU-s a member saved; a step costs the same within 7%).
"""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np

from nvp_agentkit.errors import InvalidInput
from nvp_agentkit.model.config import NVPConfig
from nvp_agentkit.model.network import FOLDED_IN, FOLDED_OUT
from nvp_agentkit.model.state import Variables, Vector, flatten, initial_variables, shapes, unflatten

CELLS = 4  # of a block that is folded into channels


def initial_variables_within(config: NVPConfig, features: tuple[int, ...], seed: int) -> Variables:
    """Fresh weights of the network with ``features`` channels a level, in the shapes of ``config``.

    Raises:
        InvalidInput: other levels than ``config`` has, wider ones, or such as give other layers.
    """
    narrow = narrowed(config, features)
    wide = shapes(config)
    drawn = flatten(initial_variables(narrow, seed))
    return unflatten({path: _widened(path, weights, wide[path]) for path, weights in drawn.items()})


def narrowed(config: NVPConfig, features: tuple[int, ...]) -> NVPConfig:
    """``config`` with ``features`` for its encoder's."""
    fits = len(features) == len(config.encoder_features)
    if not fits or any(own > all_ for own, all_ in zip(features, config.encoder_features, strict=True)):
        raise InvalidInput(f"features {features} do not fit into {config.encoder_features}; give as many, none larger")
    if config.norm != "none" and features != config.encoder_features:
        raise InvalidInput(f"features {features} with norm {config.norm!r}: it would see the absent channels; use none")
    narrow = replace(config, encoder_features=features)
    if shapes(narrow).keys() != shapes(config).keys():
        raise InvalidInput(f"features {features} make another network than {config.encoder_features}: one projects")
    return narrow


def count_within(config: NVPConfig, features: tuple[int, ...]) -> int:
    """Number of values that train: the absent channels' do not."""
    return sum(math.prod(shape) for shape in shapes(narrowed(config, features)).values())


def _widened(path: str, weights: Vector, shape: tuple[int, ...]) -> Vector:
    """``weights`` at the front of each axis of ``shape``; where an axis is folded, of each cell's part of it."""
    for axis, size in enumerate(shape):
        if weights.shape[axis] == size:
            continue
        cells = CELLS if _folded(path, axis - len(shape)) else 1
        apart = weights.reshape(*weights.shape[:axis], cells, -1, *weights.shape[axis + 1 :])
        absent = [(0, 0)] * apart.ndim
        absent[axis + 1] = (0, size // cells - apart.shape[axis + 1])
        weights = np.pad(apart, absent).reshape(*weights.shape[:axis], size, *weights.shape[axis + 1 :])
    return weights


def _folded(path: str, axis: int) -> bool:
    """Whether the ``axis`` (-1: channels out, -2: channels in) of these weights runs over blocks' cells."""
    return f"/{FOLDED_OUT if axis == -1 else FOLDED_IN}" in path
