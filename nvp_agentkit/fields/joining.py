"""Several sets of sequences as one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np

from nvp_agentkit.errors import InvalidField
from nvp_agentkit.fields.sequence import SequenceSet
from nvp_agentkit.fields.storage import SequenceWriter, open_sequences


def join(parts: Sequence[SequenceSet], path: Path) -> SequenceSet:
    """All trajectories of ``parts`` in their order, written to ``path`` one at a time.

    The provenance says what they share, and of each what it does not.

    Raises:
        InvalidField: they differ in frames, grid, or what their numbers mean; the text names the first difference.
    """
    first = parts[0]
    for number, part in enumerate(parts[1:], start=1):
        for name, value in _must_agree(first).items():
            if (other := _must_agree(part)[name]) != value:
                raise InvalidField(f"part {number} has {name} {other}, part 0 {value}; join what is alike")
    meta = replace(first.meta, provenance=_provenance([dict(part.meta.provenance) for part in parts]))
    masked = any(part.mask is not None for part in parts)
    shape = (sum(map(len, parts)), *first.values.shape[1:])
    with SequenceWriter(path, shape, meta, sorted(first.channels)) as writer:
        for one in (trajectory for part in parts for trajectory in part):
            whole = np.ones(one.values.shape, np.bool_) if masked and one.mask is None else one.mask
            writer.add(one.values, whole, one.channels)
        writer.finish(meta, masked=masked)
    return open_sequences(path)


def _must_agree(part: SequenceSet) -> dict[str, Any]:
    meaning = asdict(part.meta)
    del meaning["provenance"], meaning["start_ms"]
    return {"frames": part.frames, "grid": part.grid, "channels": sorted(part.channels), **meaning}


def _provenance(each: list[dict[str, Any]]) -> dict[str, Any]:
    shared = {name: value for name, value in each[0].items() if all(one.get(name) == value for one in each)}
    return shared | {"parts": [{name: value for name, value in one.items() if name not in shared} for one in each]}
