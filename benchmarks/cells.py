"""Results that took minutes, kept under .cache until the code that they are of changes: benchmarks go on from them."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from functools import cache
from pathlib import Path

from benchmarks.verdict import ROOT

KEPT = ROOT / ".cache" / "benchmarks"
PHYSICS = ("domains", "fields", "model", "training")

Numbers = dict[str, float]


def cell(benchmark: str, name: str, settings: object, made: Callable[[], Numbers], *, ours: bool = True) -> Numbers:
    """What ``made`` gives, or gave with these ``settings``, that benchmark and, where it is ``ours``, this physics."""
    path = place(benchmark, name, settings, ours=ours)
    if path.exists():
        print(f"{name}: from an earlier run", flush=True)
        found: Numbers = json.loads(path.read_text())
        return found
    found = made()
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(found))
    print(name, {one: round(value, 4) for one, value in found.items()}, flush=True)
    return found


def place(benchmark: str, name: str, settings: object, *, ours: bool = True) -> Path:
    """Where that cell is kept, once it is made."""
    text = (ROOT / "benchmarks" / f"{benchmark}.py").read_text()
    said = json.dumps([settings, code() if ours else "", text], default=repr)
    return KEPT / f"{benchmark}-{name.replace('/', '-')}-{hashlib.sha256(said.encode()).hexdigest()[:16]}.json"


@cache
def code() -> str:
    """The digest of all that decides a network's numbers."""
    files = (path for part in PHYSICS for path in sorted(Path(ROOT, "nvp_agentkit", part).glob("*.py")))
    return hashlib.sha256(b"".join(path.read_bytes() for path in files)).hexdigest()
