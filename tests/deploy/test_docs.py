"""docs/deploy.md says of every limit what the compose file says, and that what was seen fits in it."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

PAGE = (Path(__file__).resolve().parents[2] / "docs" / "deploy.md").read_text()
ROW = re.compile(r"^\| ([a-z0-9, ]+) \| ([\w ]+) MB \| ([\d.]+) ([GM]B) \|$", re.MULTILINE)
MB = {"MB": 1, "GB": 1024, "m": 1, "g": 1024}


def test_limits_are_those_of_the_compose_file_and_hold_what_was_seen(services: dict[str, Any]) -> None:
    told = {}
    for names, seen, limit, unit in ROW.findall(PAGE):
        limit_mb = float(limit) * MB[unit]
        assert max(map(int, re.findall(r"\d+", seen))) < 0.8 * limit_mb, names
        for name in names.replace("shadows", "shadow-1, shadow-2").split(", "):
            told[name] = limit_mb
    limits = {name: service["mem_limit"] for name, service in services.items() if name != "keys"}
    assert told == {name: int(limit[:-1]) * MB[limit[-1]] for name, limit in limits.items()}
