"""Sequences from an equation or from a user's file. Hostile files meet this process and no other."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Any

from nvp_agentkit.domains import get_domain
from nvp_agentkit.energy.budget import require_useful
from nvp_agentkit.fields.readers import read_user_file
from nvp_agentkit.fields.sequence import SequenceSet
from nvp_agentkit.fields.storage import save

from ..call import Arrays, Call
from ..spending import Allowance
from .machine import environment

COMPILE_CPU_S = 2.0  # of a simulator, 0.9 to 1.2 measured: nobody can stop it half way, so it must fit the budget


def simulate(call: Call) -> tuple[dict[str, Any], Arrays]:
    """``params``: domain, trajectories, frames, size, seed, out, granted_mj, watts_per_core.

    Raises:
        BudgetTooSmall: nothing was computed yet.
        BudgetExhausted: it would not have ended within the budget.
        UnknownDomain: no simulator of that name.
    """
    params = call.params
    simulator = get_domain(params["domain"])
    least_mj = round(1000 * COMPILE_CPU_S * float(params["watts_per_core"]))
    require_useful(call.spending.granted_mj, least_mj, f"a simulation of {params['domain']}, to begin with,")
    allowance = Allowance(call.spending, stop=call.stop_reason)
    call.progress(phase="simulating", step=0)

    def progress(done: int, total: int) -> None:
        allowance.require(done, f"simulating {params['domain']}")
        call.progress(phase="simulating", step=done, steps=total)

    sequences = simulator.simulate(params["trajectories"], params["frames"], params["size"], params["seed"], progress)
    return _saved(sequences, Path(params["out"]))


def import_file(call: Call) -> tuple[dict[str, Any], Arrays]:
    """``params``: path, array (or None), units, domain, out."""
    params = call.params
    sequences = read_user_file(
        Path(params["path"]), array=params["array"], units=params["units"], domain=params["domain"]
    )
    call.progress(phase="reading", step=1, steps=1)  # not before: what is charged cannot be refused any more
    return _saved(sequences, Path(params["out"]))


def _saved(sequences: SequenceSet, out: Path) -> tuple[dict[str, Any], Arrays]:
    save(sequences, out)
    meta = sequences.meta
    about = {
        "trajectories": sequences.trajectories,
        "frames": sequences.frames,
        "height": sequences.grid[0],
        "width": sequences.grid[1],
        "units": meta.units,
        "dt_s": meta.dt_s,
        "masked_cells": 0 if sequences.mask is None else int((~sequences.mask).sum()),
    }
    return {
        "about": about,
        "meta": asdict(meta) | {"provenance": dict(meta.provenance)},
        "environment": environment(),
    }, []
