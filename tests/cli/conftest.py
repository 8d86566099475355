"""`nvp` in this process: what it prints and the status it ends with."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest

from nvp_agentkit.cli import main


@dataclass(frozen=True)
class Ran:
    """One command, ended."""

    status: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        """All of standard output, as one document."""
        return json.loads(self.out)


@pytest.fixture
def nvp(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Callable[..., Ran]:
    """Run ``nvp`` with the given words, under no ``NVP_*`` variable but those that a test sets afterwards."""
    for name in [name for name in os.environ if name.startswith("NVP_")]:
        monkeypatch.delenv(name)

    def run(*words: object) -> Ran:
        monkeypatch.setattr(sys, "argv", ["nvp", *map(str, words)])
        with pytest.raises(SystemExit) as ended:
            main()
        said = capsys.readouterr()
        return Ran(ended.value.code or 0, said.out, said.err)

    return run
