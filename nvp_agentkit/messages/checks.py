"""What is refused at every door: fields that cannot be forecast and budgets that are none.

The client asks before it publishes, the worker asks again before the model sees anything.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from pydantic import TypeAdapter, ValidationError

from nvp_agentkit.errors import InvalidField, InvalidInput
from nvp_agentkit.messages.values import AccountName

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

_ACCOUNT: TypeAdapter[str] = TypeAdapter(AccountName)

MIN_SIDE = 16
MAX_FRAMES = 16
MIN_BUDGET_J = 0.001
MAX_BUDGET_J = 1e12
MAX_DEADLINE_S = 30 * 86_400.0  # reservations, claims and markers are kept until then


def check_account_name(account: str) -> None:
    """Refuse what is no account's name: it could reach another account's keys.

    Raises:
        InvalidInput: other characters, or too many.
    """
    try:
        _ACCOUNT.validate_python(account)
    except ValidationError as error:
        raise InvalidInput(
            f"account {account!r}: a name has 1 to 63 of a-z, 0-9 and '-', and does not begin with '-'"
        ) from error


def check_shape(shape: tuple[int, ...], *, max_cells: int) -> None:
    """Refuse a field by its shape alone, before a byte of it is read.

    Raises:
        InvalidField: not (H, W) or (K, H, W), a side under 16 px, or more than ``max_cells`` cells.
    """
    if len(shape) not in (2, 3):
        raise InvalidField(f"field of shape {shape}: send one frame (H, W) or several (K, H, W), oldest first")
    height, width = shape[-2:]
    if min(height, width) < MIN_SIDE:
        raise InvalidField(f"field of {height} x {width} cells: each side must be at least {MIN_SIDE}")
    if len(shape) == 3 and not 1 <= shape[0] <= MAX_FRAMES:
        raise InvalidField(f"field of {shape[0]} frames: send 1 to {MAX_FRAMES}")
    if math.prod(shape) > max_cells:
        raise InvalidField(
            f"field of {math.prod(shape):,} cells, limit {max_cells:,}; crop it, coarsen it or raise NVP_MAX_CELLS"
        )


def check_field(field: object, *, max_cells: int) -> NDArray[np.float32]:
    """The field as float32, shape (H, W) or (K, H, W); refused unless every value is finite.

    Raises:
        InvalidField: wrong shape, size or dtype, NaN/Inf, or masked cells; the text names value, limit and remedy.
    """
    import numpy as np  # whoever has a field has loaded it; a third of the client's import time otherwise

    try:
        array = np.asarray(field)
    except ValueError as error:
        raise InvalidField(f"field is no array ({error}); send rows of equal length") from error
    if array.dtype.kind not in "fiu":
        raise InvalidField(f"field of dtype {array.dtype}: send real numbers (float32 is what travels)")
    check_shape(array.shape, max_cells=max_cells)
    hidden = int(np.count_nonzero(field.mask)) if isinstance(field, np.ma.MaskedArray) else 0
    if hidden:
        raise InvalidField(f"field has {hidden:,} masked cells of {array.size:,}; fill or cut them before asking")
    with np.errstate(over="ignore"):
        values = array.astype(np.float32)
    bad = int(np.count_nonzero(~np.isfinite(values)))
    if bad:
        raise InvalidField(
            f"field has {bad:,} values of {values.size:,} that are NaN, infinite or beyond float32; "
            "fill or cut them before asking"
        )
    return values


def millijoules(budget_j: float | None) -> int:
    """A budget in joules as whole millijoules.

    Raises:
        InvalidInput: missing, zero, negative, not finite, or under one millijoule.
    """
    if budget_j is None:
        raise InvalidInput("no budget: every published request says what it may cost; pass budget_j=5.0, say")
    if isinstance(budget_j, bool) or not isinstance(budget_j, int | float):
        raise InvalidInput(f"budget_j={budget_j!r} is no number of joules; pass budget_j=5.0, say")
    if not MIN_BUDGET_J <= budget_j <= MAX_BUDGET_J:  # NaN is in no range
        raise InvalidInput(
            f"budget_j={budget_j!r}: must be between {MIN_BUDGET_J} and {MAX_BUDGET_J:.0e} joules; "
            "pass budget_j=5.0, say"
        )
    return round(budget_j * 1000)
