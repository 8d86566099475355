"""docs/domains.md is true: its table says what the simulators declare, its programs do what they say."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from nvp_agentkit.domains import DOMAINS
from nvp_agentkit.errors import InvalidInput
from nvp_agentkit.fields.baselines import NAMES

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "docs" / "domains.md").read_text()
DECLARED, VARIANTS, MEASURED, BLIND, *_ = (part for part in PAGE.split("\n\n") if part.startswith("|"))
FIGURES = json.loads((ROOT / "benchmarks" / "results" / "simulators.json").read_text())["figures"]
BASELINES = json.loads((ROOT / "benchmarks" / "results" / "baselines.json").read_text())["figures"]
PROGRAMS = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)


def rows(table: str = DECLARED) -> dict[str, list[str]]:
    lines = [line.replace(r"\|", "/").strip("| ").split(" | ") for line in table.splitlines() if line.startswith("| `")]
    return {cells[0].replace("`", "").replace(", ", "_"): cells for cells in lines}


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


def test_the_page_names_every_variant() -> None:
    assert rows(VARIANTS) == {
        name: [f"`{name}`", ", ".join(f"`{variant}`" for variant in domain.variants)]
        for name, domain in DOMAINS.items()
        if domain.variants
    }


def test_what_is_measured_is_what_the_benchmark_printed() -> None:
    measured = rows(MEASURED)
    assert set(measured) == {name.partition(".")[0] for name in FIGURES}
    for name, (_, persistence, advection, best, half, step_ms, frame_cpu_s) in measured.items():
        value, forecaster = best.split()
        said = {
            "persistence": persistence, "advection": advection, forecaster: value, "half_solver": half,
            "step_ms": step_ms, "frame_cpu_s": frame_cpu_s,
        }  # fmt: skip
        assert {key: float(one) for key, one in said.items()} == {
            key: FIGURES[f"{name}.{key}"]["value"] for key in said
        }


def test_what_the_state_is_worth_is_what_the_benchmark_printed() -> None:
    assert set(rows(BLIND)) == set(DOMAINS)
    for name, (_, persistence, best, given, alone) in rows(BLIND).items():
        value, trivial = best.split()
        said = {"persistence": persistence, trivial: value, "solver_2x_wider": given, "blind_solver_2x_wider": alone}
        assert {key: float(one) for key, one in said.items()} == {
            key: round(BASELINES[f"{name}/{key}"]["value"], 3) for key in said
        }
        assert trivial == min(NAMES, key=lambda forecaster: BASELINES[f"{name}/{forecaster}"]["value"])


def test_the_cost_of_the_reference_task_is_what_the_benchmark_printed() -> None:
    figures = json.loads((ROOT / "benchmarks" / "results" / "atlas_hw.json").read_text())["figures"]
    section = PAGE.partition("## The reference task")[2]
    for unit, name in (("CPU-s on", "cpu_s"), ("CPU-s,", "spin_up_cpu_s"), ("ms a step", "step_ms")):
        assert f"{figures[name]['value']} {unit}" in section
    assert f"(ratio {figures['vs_exponax']['value']})" in section


def test_the_first_program_prints_its_sequences(capsys: pytest.CaptureFixture[str]) -> None:
    exec(PROGRAMS[0], {})
    assert capsys.readouterr().out == "(2, 3, 32, 32) dissipative random\n"


def test_the_second_program_is_refused() -> None:
    with pytest.raises(InvalidInput, match=r"^dt=0\.5 is too long .* halve dt$"):
        exec(PROGRAMS[1], {})
    assert "InvalidInput: dt=0.5 is too long ... halve dt" in PROGRAMS[1]
