"""Which axis of a variable is time, which are rows and columns, and which variable is meant."""

from __future__ import annotations

from collections.abc import Iterable

from nvp_agentkit.arrayfile.limits import MIN_SIDE
from nvp_agentkit.arrayfile.variable import Catalogue, Variable
from nvp_agentkit.errors import InvalidFile

TRAJECTORY, TIME, ROW, COLUMN = "N", "T", "Y", "X"
ROLES = (TRAJECTORY, TIME, ROW, COLUMN)
STANDARD_NAMES = {
    "realization": TRAJECTORY,
    "time": TIME,
    "latitude": ROW, "grid_latitude": ROW, "projection_y_coordinate": ROW,
    "longitude": COLUMN, "grid_longitude": COLUMN, "projection_x_coordinate": COLUMN,
}  # fmt: skip
NAMES = {
    "trajectory": TRAJECTORY, "n_trajectories": TRAJECTORY, "realization": TRAJECTORY, "member": TRAJECTORY,
    "ensemble": TRAJECTORY, "sample": TRAJECTORY, "number": TRAJECTORY,
    "time": TIME, "t": TIME, "valid_time": TIME, "n_steps": TIME, "step": TIME, "frame": TIME,
    "lat": ROW, "latitude": ROW, "rlat": ROW, "nlat": ROW, "y": ROW, "row": ROW, "south_north": ROW,
    "lon": COLUMN, "longitude": COLUMN, "rlon": COLUMN, "nlon": COLUMN, "x": COLUMN, "column": COLUMN,
    "west_east": COLUMN,
}  # fmt: skip
NORTH, EAST = ("degrees_north", "degree_north", "degrees_n"), ("degrees_east", "degree_east", "degrees_e")


def choose(catalogue: Catalogue, filename: str, array: str | None) -> Variable:
    """The variable that is asked for, or the only one that could be meant.

    Raises:
        InvalidFile: there is none, there are several, or that one cannot be read; the text names those there are.
    """
    if array is not None and (full := _full(array, [*catalogue.variables, *catalogue.unreadable])) is not None:
        if full in catalogue.unreadable:
            raise InvalidFile(f"{filename}:{full}: {catalogue.unreadable[full]}")
        return catalogue.variables[full]
    if array is not None:
        raise InvalidFile(f"{filename}: no variable {array!r}; there are {_named(catalogue.variables.values())}")
    bounds = {one.text("bounds") for one in catalogue.variables.values()}
    long = [one for name, one in catalogue.variables.items() if name not in bounds and _is_long(one)]
    whole = [one for one in long if one.text("nvp_channels")]  # the others are channels of it
    could = whole or [one for one in long if _has_roles(one, catalogue)] or long
    if len(could) == 1:
        return could[0]
    if could:
        raise InvalidFile(f"{filename}: several could be meant: {_named(could)}. Name one as FILE:NAME")
    unread = "".join(f"; {name[:80]} is {why}" for name, why in list(catalogue.unreadable.items())[:1])
    there = _named(catalogue.variables.values())
    raise InvalidFile(f"{filename}: no field of real numbers over time, rows and columns{unread}; there are {there}")


def _named(variables: Iterable[Variable]) -> str:
    told = [f"{one.name[:80]} {one.shape}{'' if one.numeric else f' of {one.dtype}'}" for one in variables]
    return ", ".join(told[:8]) or "none"


def _full(asked: str, names: list[str]) -> str | None:
    """A name may be given without its groups, where that is enough."""
    if asked in names:
        return asked
    found = [name for name in names if name.rpartition("/")[2] == asked]
    return found[0] if len(found) == 1 else None


def _is_long(variable: Variable) -> bool:
    return variable.numeric and len(variable.shape) >= 3 and len([side for side in variable.shape if side > 1]) >= 2


def _has_roles(variable: Variable, catalogue: Catalogue) -> bool:
    try:
        return bool(roles(variable, catalogue))
    except InvalidFile:
        return False


def roles(variable: Variable, catalogue: Catalogue) -> tuple[str | None, ...]:
    """What each axis is, in stored order; None: an axis of one step that means nothing here.

    Raises:
        InvalidFile: no time, no rows or no columns, or an axis too many.
    """
    if not variable.numeric:
        raise InvalidFile(f"{variable.name}: {variable.dtype} is no array of real numbers; convert it to float32")
    if not any(variable.dims):
        return _by_place(variable)
    found = [_role(dim, catalogue) for dim in variable.dims]
    if len(found) != len(variable.shape):
        raise InvalidFile(f"{variable.name}: {len(found)} names for {len(variable.shape)} axes; write it again")
    rest = [role for role in ROLES[1:] if role not in found]
    unknown = [at for at, role in enumerate(found) if role is None and variable.shape[at] > 1]
    if len(unknown) > len(rest):
        dim, side = variable.dims[unknown[0]], variable.shape[unknown[0]]
        raise InvalidFile(
            f"{variable.name}: axis {dim!r} of {side} steps beside time, rows and columns; "
            f"write a file of one step of it (xarray: .isel({dim}=0))"
        )
    for at, role in zip(unknown, rest, strict=False):  # the usual order
        found[at] = role
    missing = [role for role in ROLES[1:] if role not in found]
    if missing or len({role for role in found if role}) != len([role for role in found if role]):
        raise InvalidFile(f"{variable.name}: axes {variable.dims}; give time, rows and columns (T, H, W), each once")
    _check_sides(variable, found)
    return tuple(found)


def _by_place(variable: Variable) -> tuple[str | None, ...]:
    if len(variable.shape) not in (3, 4) or min(variable.shape) < 1:
        raise InvalidFile(f"{variable.name}: shape {variable.shape}; give (T, H, W) or (N, T, H, W), no axis empty")
    found = ROLES[-len(variable.shape) :]
    _check_sides(variable, list(found))
    return found


def _role(dim: str, catalogue: Catalogue) -> str | None:
    coordinate = catalogue.variables.get(dim)
    if coordinate is not None:
        axis, units = (coordinate.text("axis") or "").upper(), (coordinate.text("units") or "").lower()
        if axis in (TIME, ROW, COLUMN):
            return axis
        if (known := STANDARD_NAMES.get(coordinate.text("standard_name") or "")) is not None:
            return known
        if " since " in units or units in (*NORTH, *EAST):
            return TIME if " since " in units else ROW if units in NORTH else COLUMN
    return NAMES.get(dim.rpartition("/")[2].lower())


def _check_sides(variable: Variable, found: list[str | None]) -> None:
    sides = {role: side for role, side in zip(found, variable.shape, strict=True) if role}
    if min(variable.shape) < 1:
        raise InvalidFile(f"{variable.name}: shape {variable.shape}; give (T, H, W) or (N, T, H, W), no axis empty")
    if min(sides[ROW], sides[COLUMN]) < MIN_SIDE:
        raise InvalidFile(
            f"{variable.name}: {sides[ROW]} x {sides[COLUMN]} cells, limit {MIN_SIDE} a side; bring a larger field"
        )
