"""Whether two texts name one unit, as ``mm/h`` and ``mm hr-1`` do."""

from __future__ import annotations

import re
from collections import Counter

FACTOR = re.compile(r"\s*([*/.\u00b7]?)\s*([^\W\d]+|%|1(?![\d.]))\s*(?:(?:\^|\*\*)?\s*([+-]?\d+))?")
WORDS = {
    "hr": "h", "hrs": "h", "hour": "h", "hours": "h", "sec": "s", "second": "s", "seconds": "s",
    "minute": "min", "minutes": "min", "day": "d", "days": "d", "metre": "m", "metres": "m",
    "meter": "m", "meters": "m",
    "kelvin": "K", "celsius": "degC", "degree_C": "degC", "degrees_C": "degC", "degree_Celsius": "degC",
    "percent": "%", "joule": "J", "joules": "J", "watt": "W", "watts": "W", "pascal": "Pa", "dimensionless": "1",
}  # fmt: skip


def same_units(one: str, other: str) -> bool:
    """True if the texts differ only in how powers, divisions and common names are written."""
    return _factors(one) == _factors(other)


def _factors(text: str) -> Counter[str]:
    """Each unit with its power; a text that is no product of units is one of its own."""
    found: Counter[str] = Counter()
    rest = text.strip()
    while rest:
        match = FACTOR.match(rest)
        if match is None:
            return Counter({" ".join(text.split()): 1})
        sign, name, power = match.groups()
        found[WORDS.get(name, name)] += int(power or 1) * (-1 if sign == "/" else 1)
        rest = rest[match.end() :].strip()
    return Counter({name: power for name, power in found.items() if power and name != "1"})
