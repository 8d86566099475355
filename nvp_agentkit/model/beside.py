"""What a network is shown beside the frames: other fields at the newest of them, or numbers that hold all over a map.

Both are maps to it. So one set of weights learns from several fields at once, and knows the time between frames, the
size of a cell or the domain where these differ in what it was trained on: a network that is told ``dt`` forecasts over
the step that is asked for, within those it has seen.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import numpy.typing as npt

from nvp_agentkit.errors import InvalidField
from nvp_agentkit.model.bundle import Floats, ModelBundle, Normalization

Beside = Mapping[str, npt.ArrayLike]


def normal_maps(bundle: ModelBundle, given: Beside | None, shape: tuple[int, ...]) -> Floats | None:
    """The maps that ``bundle`` looks at beside the field, (B, H, W, N) as the network wants them; None: at none.

    Args:
        bundle: whose configuration names them.
        given: by name, in the units of training: a number, one map (H, W), a map a window (B, H, W), or a number a
            window (B, 1, 1). A cell without a value (NaN) gets the mean of the training data.
        shape: (B, H, W).

    Raises:
        InvalidField: names that are missing or not known, values or shapes that cannot be shown.
    """
    wanted, there = bundle.config.beside, {} if given is None else given
    if set(there) != set(wanted):
        raise InvalidField(
            f"beside the field were given: {', '.join(sorted(there)) or 'nothing'}; this network looks at "
            f"{', '.join(wanted) or 'nothing'}: give these"
        )
    if not wanted:
        return None
    return normalised([_checked(name, there[name], shape) for name in wanted], bundle.beside)


def normalised(maps: list[Floats], units: tuple[Normalization, ...]) -> Floats:
    """Maps of one shape, each in its own units, as (..., N): unit spread, what has no value at the mean."""
    shown = [(values - np.float32(one.offset)) / np.float32(one.scale) for values, one in zip(maps, units, strict=True)]
    return np.nan_to_num(np.stack(shown, -1), copy=False, nan=0.0)


def _checked(name: str, values: npt.ArrayLike, shape: tuple[int, ...]) -> Floats:
    array = np.asarray(values)
    if array.dtype.kind not in "fiub":
        raise InvalidField(f"{name} is {array.dtype}; give real numbers")
    with np.errstate(over="ignore"):  # what float32 cannot hold becomes infinite, and is refused as such
        array = array.astype(np.float32)
    if np.isinf(array).any():
        raise InvalidField(f"{name} holds infinite values (or more than float32 holds); mark missing cells with NaN")
    sides = list(zip(array.shape[::-1], shape[::-1], strict=False))
    if array.ndim == 1 or array.ndim > len(shape) or any(side not in (1, full) for side, full in sides):
        raise InvalidField(f"{name} has shape {array.shape}; give a number, (H, W), (B, 1, 1) or (B, H, W) of {shape}")
    return np.broadcast_to(array, shape)
