"""Which units the tools of CF (UDUNITS) can read. To them another one is no unit, and must not be given as one."""

from __future__ import annotations

import re

PREFIX = "Y|Z|E|P|T|G|M|k|h|da|d|c|m|u|µ|n|p|f|a|z|y"
SYMBOL = "m|g|s|K|A|mol|cd|J|W|N|Pa|Hz|C|V|F|S|T|H|Wb|ohm|lm|lx|Bq|Gy|Sv|eV|bar|l|L|t"
NAME = (
    "%|percent|ppm|min|minutes?|h|hours?|d|days?|seconds?|meters?|metres?|gram|kelvin|ampere|mole|joule|watt|newton|"
    "pascal|hertz|coulomb|volt|tesla|weber|degrees?|degC|degF|celsius|degrees?_north|degrees?_east|rad|radian|sr|ha|"
    "inch|ft|mile|knot|atm"
)
NUMBER = r"[0-9]+(?:\.[0-9]+)?(?:[eE][+-]?[0-9]+)?"
FACTOR = rf"(?:{NUMBER}|(?:(?:{PREFIX})?(?:{SYMBOL})|{NAME})(?:\^?[+-]?[0-9])?)"
PRODUCT = re.compile(rf"{FACTOR}(?:(?:\s*[*/.]\s*|\s+){FACTOR})*")
NO_UNIT = "1"  # of pure numbers, and of values of which nothing was said
TEMPERATURES = frozenset(("K", "kelvin", "degC", "degF", "celsius"))


def readable(units: str) -> bool:
    """True for a product of known units with whole powers, as ``mm/h``, ``J m-3`` or ``1e-3 kg*m^2``.

    Says no to some that UDUNITS would read, and yes to none that it would not: each name was tried with udunits2.
    """
    return PRODUCT.fullmatch(units) is not None


def counted(units: str) -> bool:
    """True where ``units`` say what is counted."""
    return units not in ("", NO_UNIT)


def with_units(number: str, units: str) -> str:
    """``0.1 mm/h``, and where nothing is counted the number alone."""
    return f"{number} {units}" if counted(units) else number


def in_units(units: str) -> str:
    """As a sentence goes on: ``in mm/h``."""
    return f"in {units}" if counted(units) else "without a unit"
