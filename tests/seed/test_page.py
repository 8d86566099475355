"""`docs/seed.md` is true: its Python runs as it stands, the founding document's four examples among it."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

PAGE = (Path(__file__).resolve().parents[2] / "docs" / "seed.md").read_text()
BLOCKS = re.findall(r"^```python\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)
pytestmark = pytest.mark.slow
EPOCHS = "num_epochs=50"


@pytest.fixture(scope="module")
def ran(tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, Any], str]:
    """What the page's Python leaves behind and prints; 2 epochs for 50 are all that is not as it stands."""
    names: dict[str, Any] = {}
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(tmp_path_factory.mktemp("page"))
        printed: list[str] = []
        names["print"] = lambda *values: printed.append(" ".join(map(str, values)))
        for block in BLOCKS:
            exec(compile(block.replace(EPOCHS, "num_epochs=2"), "docs/seed.md", "exec"), names)
    return names, "\n".join(printed)


def test_the_four_examples_of_the_document_run(ran):
    names, said = ran
    assert "Predicted mean shape: (1, 256, 256, 1)" in said
    assert "Predicted log-var shape: (1, 256, 256, 1)" in said
    assert len(names["history"]["train"]) == len(names["history"]["val"]) == 2
    assert names["drawn"].shape == names["mean"].shape


def test_the_page_s_parameter_counts_are_those_it_prints(ran):
    _, said = ran
    counts = re.findall(r": ([\d,]+) parameters", said)
    assert len(counts) == 3
    for count in counts:
        assert f"| {count} |" in PAGE


def test_nothing_but_the_number_of_epochs_was_changed():
    assert PAGE.count(EPOCHS) == 1
