"""The page about streams names tests that there are, and its rules are the fifteen."""

from __future__ import annotations

import re
from collections import Counter
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "docs" / "streams.md").read_text()


def test_every_test_that_the_page_names_is_there() -> None:
    named = set(re.findall(r"`(test_\w+)`", PAGE))
    there = {
        name for file in (ROOT / "tests").rglob("test_*.py") for name in re.findall(r"def (test_\w+)", file.read_text())
    }
    assert len(named) > 40
    assert named - there == set()


def test_what_users_of_others_reported_is_prevented_by_a_test() -> None:
    reported = re.findall(r"^\| (\S+#.+?) \| [^|]+ \| `test_", PAGE, flags=re.MULTILINE)
    systems = [one.partition("#")[0] for entry in reported for one in entry.split(", ")]
    assert len(reported) == 22
    assert Counter(systems) == {
        "faststream": 4, "taskiq-redis": 4, "arq": 3, "celery": 4, "kombu": 1, "dramatiq": 1, "docket": 2, "redis": 2,
        "ray": 1, "LitServe": 1, "triton": 1, "sglang-jax": 1,
    }  # fmt: skip


def test_each_rule_is_held_by_a_test() -> None:
    rules = re.findall(r"^\| (\d+) \| [^|]+ \| `test_", PAGE, flags=re.MULTILINE)
    assert rules == [str(number) for number in range(1, 16)]
