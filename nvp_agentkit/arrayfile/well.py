"""The layout of The Well: fields by rank in groups, axes and boundaries in groups of their own.

t0_fields/{density, ...}       (n_trajectories, n_steps, x, y); t1_fields have components and are no single field
dimensions/{time, x, y}        attribute spatial_dims names the axes in their order
boundary_conditions/{x_periodic, y_wall, ...}
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy.typing as npt

from nvp_agentkit.arrayfile.variable import Catalogue, Selection, Variable
from nvp_agentkit.errors import InvalidFile

FIELDS, AXES, BOUNDARIES = "t0_fields/", "dimensions/", "boundary_conditions/"
CONDITIONS = {"periodic": "periodic", "wall": "reflecting", "open": "open"}


def is_well(catalogue: Catalogue) -> bool:
    """True for a file with fields and axes where The Well has them."""
    names = [*catalogue.variables, *catalogue.unreadable]
    return all(any(name.startswith(group) for name in names) for group in (FIELDS, AXES))


def well(catalogue: Catalogue) -> Catalogue:
    """The same with named axes, and its scalar fields only."""
    variables = catalogue.variables
    axes = {name.removeprefix(AXES): one for name, one in variables.items() if name.startswith(AXES)}
    space = tuple(name for name in axes if name in ("x", "y"))
    found = {name: replace(one, dims=(name,)) for name, one in axes.items() if name in space}
    if (time := axes.get("time")) is not None:
        found["time"] = replace(_first_row(time), dims=("time",))
    kept = {"nvp_boundary": " ".join(_boundary(variables, axis) for axis in ("y", "x"))}
    for name, one in variables.items():
        if name.startswith(FIELDS):
            if len(space) != 2 or len(one.shape) not in (3, 4):
                raise InvalidFile(f"{name}: shape {one.shape} over axes {space}; give a field over time, x and y")
            dims = ("trajectory", "time", *space)[-len(one.shape) :]
            found[name] = replace(one, dims=dims, attrs={**one.attrs, **kept})
    vectors = {name: "of several components; write one of them alone" for name in variables if _has_components(name)}
    return Catalogue(found, {**catalogue.unreadable, **vectors})


def _has_components(name: str) -> bool:
    return name.startswith(("t1_fields/", "t2_fields/"))


def _first_row(time: Variable) -> Variable:
    """The times of the first trajectory, where each has its own."""
    if len(time.shape) != 2:
        return time

    def read(selection: Selection) -> npt.NDArray[Any]:
        return time.read((slice(0, 1), *selection)).reshape(-1)

    return replace(time, shape=time.shape[1:], read=read)


def _boundary(variables: dict[str, Variable], axis: str) -> str:
    """The condition along an axis, from the names The Well gives them: ``x_periodic``, ``xy_wall``."""
    for name in variables:
        axes, _, condition = name.removeprefix(BOUNDARIES).partition("/")[0].partition("_")
        if name.startswith(BOUNDARIES) and axis in axes and condition in CONDITIONS:
            return CONDITIONS[condition]
    return "open"
