"""docs/domains.md is true: its table says what the simulators declare, its programs do what they say."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from nvp_agentkit.domains import DOMAINS
from nvp_agentkit.errors import InvalidInput

PAGE = (Path(__file__).resolve().parents[2] / "docs" / "domains.md").read_text()
PROGRAMS = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)


def rows() -> dict[str, list[str]]:
    lines = [line.replace(r"\|", "/").strip("| ").split(" | ") for line in PAGE.splitlines() if line.startswith("| `")]
    return {cells[0].strip("`"): cells for cells in lines}


def test_the_table_names_every_domain() -> None:
    assert set(rows()) == set(DOMAINS)


@pytest.mark.parametrize("name", sorted(DOMAINS))
def test_a_row_says_what_the_sequences_declare(name: str) -> None:
    _, _, _, unit, edges, total, spacing, *_ = rows()[name]
    meta = DOMAINS[name].process(64, 0, None).meta
    assert unit == meta.units
    assert meta.boundary == (edges, edges)
    assert total.startswith(meta.conservation)
    assert float(spacing.split()[0]) == pytest.approx(meta.dt_s)


def test_the_first_program_prints_its_sequences(capsys: pytest.CaptureFixture[str]) -> None:
    exec(PROGRAMS[0], {})
    assert capsys.readouterr().out == "(2, 3, 32, 32) dissipative\n"


def test_the_second_program_is_refused() -> None:
    with pytest.raises(InvalidInput, match=r"^dt=0\.5 is too long .* halve dt$"):
        exec(PROGRAMS[1], {})
    assert "InvalidInput: dt=0.5 is too long ... halve dt" in PROGRAMS[1]
