"""What the numbers of a variable mean, as far as its file says: CF attributes, times, distances, missing values."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from nvp_agentkit.arrayfile.axes import COLUMN, ROW, TIME
from nvp_agentkit.arrayfile.limits import MAX_COORDINATE
from nvp_agentkit.arrayfile.units import same_units
from nvp_agentkit.arrayfile.variable import Catalogue, Variable
from nvp_agentkit.errors import InvalidFile

UNSAID, OWN = (None, "", "1"), "the file's own"
MAX_UNITS = 64  # characters that a message has room for
ROWS_DESCEND = "rows_descend"  # a fact of files that begin in the north
UNEVEN = 0.1  # calendar months differ by a tenth
METRES_PER_DEGREE = 6_371_000 * math.pi / 180  # on a sphere, along a meridian
NETCDF_FILL = 9.969209968386869e36  # what the NetCDF library puts where nothing was written
SECONDS = {
    "milliseconds": 1e-3, "millisecond": 1e-3, "msec": 1e-3, "ms": 1e-3,
    "seconds": 1.0, "second": 1.0, "secs": 1.0, "sec": 1.0, "s": 1.0,
    "minutes": 60.0, "minute": 60.0, "mins": 60.0, "min": 60.0,
    "hours": 3600.0, "hour": 3600.0, "hrs": 3600.0, "hr": 3600.0, "h": 3600.0,
    "days": 86400.0, "day": 86400.0, "d": 86400.0,
}  # fmt: skip
METRES = {
    "m": 1.0, "meter": 1.0, "meters": 1.0, "metre": 1.0, "metres": 1.0,
    "km": 1e3, "kilometer": 1e3, "kilometers": 1e3, "kilometre": 1e3, "kilometres": 1e3,
}  # fmt: skip
REAL_CALENDARS = ("standard", "gregorian", "proleptic_gregorian")
REFERENCE = re.compile(
    r"(\d{1,4})-(\d{1,2})-(\d{1,2})(?:[T ]+(\d{1,2})(?::(\d{1,2}))?(?::(\d{1,2})(?:\.\d*)?)?)?"
    r"(?: *(?:Z|UTC|GMT|[+-]0{1,2}(?::?0{1,2})?))?"
)
GREGORIAN = np.datetime64("1582-10-15", "ms")  # before, "standard" counts Julian days
BOUNDARIES = ("periodic", "reflecting", "open")
CONSERVATIONS = ("closed", "dissipative", "open")


@dataclass(frozen=True)
class Coordinate:
    """Where rows or columns are: a value a step, and the attributes that say of what."""

    name: str
    values: npt.NDArray[Any]
    attrs: Mapping[str, str]


@dataclass(frozen=True)
class Meaning:
    """What a file says of an array; None where it says nothing.

    Attributes:
        units: of one value.
        dt_s, dx_m: between frames and cells; in a unit of the file's own where ``facts`` has ``time_unit``,
            ``length_unit``.
        start_ms: of the first frame, milliseconds since 1970.
        boundary: per axis (y, x).
        facts: more that is worth keeping, JSON-able.
        channels: names of the file's arrays that are more of the same state.
        rows, columns: where they are.
    """

    units: str | None = None
    dt_s: float | None = None
    dx_m: float | None = None
    start_ms: int | None = None
    boundary: tuple[str, str] | None = None
    conservation: str | None = None
    facts: Mapping[str, Any] = field(default_factory=dict)
    channels: tuple[str, ...] = ()
    rows: Coordinate | None = None
    columns: Coordinate | None = None

    def agreed_units(self, asked: str | None, name: str) -> str | None:
        """The units that were ``asked``, else those that the file ``name`` says; None where nobody says any.

        Raises:
            InvalidFile: both are said, and they are not the same.
        """
        if asked is not None and self.units and not same_units(asked, self.units):
            raise InvalidFile(
                f"{name}: in {self.units[:MAX_UNITS]!r} by its own word, {asked!r} was asked; "
                "leave units away, or correct the file"
            )
        return asked or self.units


@dataclass(frozen=True)
class Said:
    """What the user says of distances, so that the file need not."""

    dt_s: float | None = None
    dx_m: float | None = None


def meaning(variable: Variable, found: tuple[str | None, ...], catalogue: Catalogue, said: Said) -> Meaning:
    """Of ``variable``, whose axes have the roles ``found``.

    Raises:
        InvalidFile: its times or distances cannot be.
    """
    if not any(variable.dims):
        return Meaning(variable.text("units"), said.dt_s, said.dx_m)
    axes = {role: catalogue.variables.get(dim) for role, dim in zip(found, variable.dims, strict=True) if role}
    facts: dict[str, Any] = {}
    dt_s, start_ms = _time(axes.get(TIME), said, facts)
    dx_m, around = _spacing(axes.get(ROW), axes.get(COLUMN), said, facts)
    kept = (variable.text("nvp_boundary") or "").split()
    boundary = (kept[0], kept[1]) if len(kept) == 2 and set(kept) <= set(BOUNDARIES) else None
    rows, columns = (_coordinate(role, found, variable, catalogue) for role in (ROW, COLUMN))
    if rows is not None and rows.values[0] > rows.values[-1]:
        facts[ROWS_DESCEND] = True
    for name in ("standard_name", "long_name"):
        if (text := variable.text(name)) is not None:
            facts[name] = text[:200]
    conservation = variable.text("nvp_conservation")
    return Meaning(
        variable.text("nvp_units") or variable.text("units"),
        dt_s,
        dx_m,
        start_ms,
        boundary or (("open", "periodic") if around else None),
        conservation if conservation in CONSERVATIONS else None,
        facts,
        tuple((variable.text("nvp_channels") or "").split()),
        rows,
        columns,
    )


def real_values(raw: npt.NDArray[Any], attrs: Mapping[str, Any]) -> npt.NDArray[Any]:
    """Packed numbers as what they stand for, NaN where they mark a missing value (CF 2.5.1 and 8.1)."""
    if attrs.get("_Unsigned") in ("true", b"true") and raw.dtype.kind == "i":
        raw = raw.view(raw.dtype.str.replace("i", "u"))
    missing = [_numbers(attrs.get(name)) for name in ("_FillValue", "missing_value")]
    marks = np.concatenate([*missing, [NETCDF_FILL]] if raw.dtype.kind == "f" else missing)
    low, high = _range(attrs)
    scale, offset = (_one(attrs.get(name), default) for name, default in (("scale_factor", 1.0), ("add_offset", 0.0)))
    wide = raw.dtype.itemsize > 4 or (raw.dtype.kind != "f" and raw.dtype.itemsize > 2)
    values: npt.NDArray[Any] = raw.astype(np.float64 if wide else np.float32)
    for mark in marks[~np.isnan(marks)]:
        values[raw == np.asarray(mark).astype(raw.dtype)] = np.nan
    for bound, beyond in ((low, np.less), (high, np.greater)):
        if bound is not None:
            values[beyond(raw, bound)] = np.nan
    if (scale, offset) != (1.0, 0.0):
        values = np.asarray(values * scale + offset, values.dtype)
    return values


def _time(axis: Variable | None, said: Said, facts: dict[str, Any]) -> tuple[float | None, int | None]:
    """Seconds between frames, and when the first one is."""
    if axis is None:
        return said.dt_s, None
    times = axis.coordinate()
    steps = np.diff(times)
    if not np.isfinite(times).all():
        raise InvalidFile(
            f"{axis.name}: time {int(np.argmin(np.isfinite(times)))} is not finite; give each frame its time"
        )
    if (steps <= 0).any():
        at = int(np.argmax(steps <= 0))
        which = "twice" if steps[at] == 0 else "decreasing"
        raise InvalidFile(f"{axis.name}: frames {at} and {at + 1} are at {times[at]:g} and {times[at + 1]:g}, {which}; "
                          "sort the frames by time and keep one of each")  # fmt: skip
    usual = float(np.median(steps)) if len(steps) else None
    if usual is not None and said.dt_s is None and (off := np.abs(steps - usual) > UNEVEN * usual).any():
        at = int(np.argmax(off))
        raise InvalidFile(
            f"{axis.name}: frames {at} and {at + 1} are {steps[at]:g} apart, most {usual:g}, limit {UNEVEN:.0%}; "
            "put frames of NaN where some are missing, or say dt_s"
        )
    units = axis.text("units")
    if units in UNSAID and said.dt_s is None:
        facts["time_unit"] = OWN
    factor, start_ms = _since(units, axis, float(times[0]), lenient=said.dt_s is not None)
    return said.dt_s or (None if usual is None else usual * factor), start_ms


def _since(units: str | None, axis: Variable, first: float, *, lenient: bool) -> tuple[float, int | None]:
    """Seconds a unit of time, and the first time in milliseconds since 1970 where the calendar is the real one."""
    unit, _, reference = (units or "1").partition(" since ")
    factor = 1.0 if unit in ("", "1") else SECONDS.get(unit.strip().lower())
    parts = REFERENCE.fullmatch(reference.strip()) if reference else None
    if factor is None or (reference and parts is None):
        if lenient:
            return 1.0, None
        raise InvalidFile(
            f"{axis.name}: units {units!r} are no time; give seconds, minutes, hours or days since a date, or say dt_s"
        )
    calendar = (axis.text("calendar") or "standard").lower()
    if parts is None or calendar not in REAL_CALENDARS:
        return factor, None
    year, month, day, hour, minute, second = (int(part or 0) for part in parts.groups())
    zero = np.datetime64(f"{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}", "ms")
    if zero < GREGORIAN and calendar != "proleptic_gregorian":
        return factor, None
    milliseconds = round(first * factor * 1000)
    return factor, int(zero.astype(np.int64)) + milliseconds


def _spacing(
    rows: Variable | None, columns: Variable | None, said: Said, facts: dict[str, Any]
) -> tuple[float | None, bool]:
    """Metres between cells, and whether the columns go around the world."""
    if rows is None or columns is None or said.dx_m is not None:
        return said.dx_m, False
    (dy, angular), (dx, around) = (_step(axis) for axis in (rows, columns))
    if angular != around:
        raise InvalidFile(
            f"{rows.name} is in {rows.text('units')!r}, {columns.name} in {columns.text('units')!r}: "
            "give both in metres or both in degrees, or say dx_m"
        )
    whole = angular and abs(dx * columns.shape[0] - 360) < dx / 2
    if angular:
        middle = float(np.mean(rows.coordinate()))
        dy, dx = dy * METRES_PER_DEGREE, dx * METRES_PER_DEGREE * math.cos(math.radians(middle))
    elif rows.text("units") in UNSAID:
        facts["length_unit"] = OWN
    facts["spacing"] = [dy, dx]
    return math.sqrt(dy * dx), whole


def _coordinate(
    role: str, found: tuple[str | None, ...], variable: Variable, catalogue: Catalogue
) -> Coordinate | None:
    """Of the axis with this role; None where the file has no number for each of its steps."""
    place = found.index(role)
    axis, side = catalogue.variables.get(variable.dims[place]), variable.shape[place]
    if axis is None or not axis.numeric or axis.shape != (side,) or side > MAX_COORDINATE:
        return None
    texts = {name: axis.text(name) for name in ("standard_name", "long_name", "units", "axis")}
    said = {name: text[:200] for name, text in texts.items() if text}
    return Coordinate(axis.name.rpartition("/")[2], real_values(axis.read((slice(0, side),)), axis.attrs), said)


def _step(axis: Variable) -> tuple[float, bool]:
    """The mean step of an axis in metres or in degrees, and whether it is in degrees."""
    values, units = axis.coordinate(), (axis.text("units") or "1").lower()
    steps = np.diff(values)
    if not (np.isfinite(values).all() and ((steps > 0).all() or (steps < 0).all())):
        raise InvalidFile(f"{axis.name}: cells neither ascend nor descend, or are not finite; sort them, or say dx_m")
    step = float(np.abs(steps).mean())
    if units.startswith("degree"):
        if np.abs(values).max() > 720:
            raise InvalidFile(
                f"{axis.name}: {np.abs(values).max():g} {units}, limit 720; correct its units, or say dx_m"
            )
        return step, True
    if units not in ("1", "", *METRES):
        raise InvalidFile(f"{axis.name}: units {units!r} are no distance; known are m, km and degrees, or say dx_m")
    return step * METRES.get(units, 1.0), False


def _range(attrs: Mapping[str, Any]) -> tuple[float | None, float | None]:
    pair = _numbers(attrs.get("valid_range"))
    if len(pair) == 2:
        return float(pair[0]), float(pair[1])
    low, high = (_numbers(attrs.get(name)) for name in ("valid_min", "valid_max"))
    return (float(low[0]) if len(low) else None), (float(high[0]) if len(high) else None)


def _one(said: Any, default: float) -> float:
    values = _numbers(said)
    if len(values) and not math.isfinite(values[0]):
        raise InvalidFile(f"scale_factor or add_offset is {values[0]}; correct the attribute")
    return float(values[0]) if len(values) else default


def _numbers(said: Any) -> npt.NDArray[np.float64]:
    """An attribute as numbers; none if it is a text or is not there."""
    if said is None or isinstance(said, str | bytes):
        return np.empty(0)
    return np.atleast_1d(np.asarray(said, np.float64)).ravel()[:64]
