"""A figure that a page quotes with its place, 1.5 GB (`size: training/crops`), is the one that was measured."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from tests.docs.test_readme import PAGES

RESULTS = Path(__file__).resolve().parents[2] / "benchmarks" / "results"
QUOTED = re.compile(r"([\d,]*\.?\d+)[^|()\d]*\(`(\w+): ([^`]+)`\)")


def quoted(text: str) -> list[tuple[str, str, str]]:
    """(number, benchmark, figure) of each."""
    return [(number.replace(",", ""), benchmark, name) for number, benchmark, name in QUOTED.findall(text)]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_a_quoted_figure_is_the_measured_one(page: Path) -> None:
    for number, benchmark, name in quoted(page.read_text()):
        measured = json.loads((RESULTS / f"{benchmark}.json").read_text())["figures"][name]["value"]
        decimals = len(number.partition(".")[2])
        assert f"{measured:.{decimals}f}" == number, f"{page.name} quotes {number} for {benchmark}: {name}"


def test_a_quotation_is_found_in_a_table() -> None:
    row = "| memory | 1,024.5 MB (`size: inference/peak`) of 2 GB | 25x (`forward: documented/over_ours`) |"
    assert quoted(row) == [("1024.5", "size", "inference/peak"), ("25", "forward", "documented/over_ours")]
