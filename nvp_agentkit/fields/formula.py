"""Energy from other fields by a declared formula, as in ``(n**2 + grad2(phi)) / 2``: arithmetic, and nothing else.

Names are channels. ``sqrt`` and ``abs`` are as in NumPy, ``grad2(x)`` is |grad x|^2 by the field's boundary and
spacing. The text is parsed, never run as Python.
"""

from __future__ import annotations

import ast
import operator
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Self

import jax.numpy as jnp
import numpy as np

from nvp_agentkit.errors import InvalidField, InvalidInput
from nvp_agentkit.fields.gradients import gradients
from nvp_agentkit.fields.sequence import FieldMeta, Floats

LONGEST = 400  # characters
LARGEST_POWER = 8
FUNCTIONS = ("abs", "grad2", "sqrt")
OPERATORS: dict[type[ast.AST], Callable[..., Any]] = {
    ast.Add: operator.add, ast.Sub: operator.sub, ast.Mult: operator.mul, ast.Div: operator.truediv,
    ast.Pow: operator.pow, ast.USub: operator.neg, ast.UAdd: operator.pos,
}  # fmt: skip
REMEDY = "give numbers, channels, + - * / **, " + ", ".join(f"{name}(...)" for name in FUNCTIONS)


@dataclass(frozen=True)
class Formula:
    """A formula that has been read: ``text`` as it is written into the provenance, ``channels`` that it needs."""

    text: str
    channels: tuple[str, ...]
    _tree: ast.expr

    @classmethod
    def read(cls, text: str) -> Self:
        """Raises `InvalidInput`, naming what is no part of a formula."""
        if len(text) > LONGEST:
            raise InvalidInput(f"formula of {len(text)} characters, limit {LONGEST}; shorten it")
        try:
            tree = ast.parse(text.strip(), mode="eval").body
        except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
            raise InvalidInput(f"formula {text!r} cannot be read; {REMEDY}") from error
        channels: set[str] = set()
        _check(tree, channels)
        if not channels:
            raise InvalidInput(f"formula {text!r} names no channel; {REMEDY}")
        return cls(ast.unparse(tree), tuple(sorted(channels)), tree)

    def energy(self, channels: Mapping[str, Floats], meta: FieldMeta) -> Floats:
        """The formula's value in every cell.

        Args:
            channels: by name, (..., H, W) each, of one shape.
            meta: boundary and spacing, which ``grad2`` goes by.

        Raises:
            InvalidField: a channel is missing, or shapes differ.
        """
        if missing := [name for name in self.channels if name not in channels]:
            raise InvalidField(f"formula {self.text!r} needs {', '.join(missing)}; there are {', '.join(channels)}")
        used = {name: np.asarray(channels[name], np.float32) for name in self.channels}
        if len(shapes := {array.shape for array in used.values()}) > 1:
            raise InvalidField(f"channels of {self.text!r} have shapes {sorted(shapes)}; make them one")
        with np.errstate(all="ignore"):  # what is not finite afterwards has no value: the reader makes it the mask
            value = _value(self._tree, used, meta)
        return np.asarray(np.broadcast_to(value, next(iter(used.values())).shape), np.float32)


def _check(node: ast.expr, channels: set[str]) -> None:
    match node:
        case ast.Constant(value=bool()):
            raise InvalidInput(f"{node.value!r} is no part of a formula; {REMEDY}")
        case ast.Constant(value=int() | float()):
            return
        case ast.Name(id=name):
            channels.add(name)
        case ast.UnaryOp(op=op, operand=inner) if type(op) in OPERATORS:
            _check(inner, channels)
        case ast.BinOp(left=base, op=ast.Pow(), right=ast.Constant(value=int() | float() as power)):
            if not abs(power) <= LARGEST_POWER:
                raise InvalidInput(f"power {power} in a formula, limit {LARGEST_POWER}; multiply instead")
            _check(base, channels)
        case ast.BinOp(left=left, op=op, right=right) if type(op) in OPERATORS and not isinstance(op, ast.Pow):
            _check(left, channels)
            _check(right, channels)
        case ast.Call(func=ast.Name(id=name), args=[inner], keywords=[]) if name in FUNCTIONS:
            _check(inner, channels)
        case _:
            raise InvalidInput(f"{ast.unparse(node)!r} is no part of a formula; {REMEDY}")


def _value(node: ast.expr, channels: Mapping[str, Floats], meta: FieldMeta) -> Any:
    match node:
        case ast.Constant(value=number):
            return np.float32(float(number))  # type: ignore[arg-type]
        case ast.Name(id=name):
            return channels[name]
        case ast.UnaryOp(op=op, operand=inner):
            return OPERATORS[type(op)](_value(inner, channels, meta))
        case ast.BinOp(left=left, op=op, right=right):
            return OPERATORS[type(op)](_value(left, channels, meta), _value(right, channels, meta))
        case ast.Call(func=ast.Name(id=name), args=[inner]):
            value = _value(inner, channels, meta)
            if name == "grad2":
                along_x, along_y = gradients(jnp.asarray(value), meta.boundary, meta.dx_m)
                return np.asarray(along_x**2 + along_y**2)
            return {"abs": np.abs, "sqrt": np.sqrt}[name](value)
    raise AssertionError(node)  # `_check` lets nothing else through
