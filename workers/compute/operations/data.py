"""Sequences from an equation or from a user's file. Hostile files meet this process and no other."""

from __future__ import annotations

import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

from nvp_agentkit.domains import get_domain
from nvp_agentkit.energy.budget import require_useful
from nvp_agentkit.errors import BudgetExhausted, InvalidFile
from nvp_agentkit.fields.description import describe
from nvp_agentkit.fields.readers import Meant, take_in
from nvp_agentkit.fields.storage import open_sequences, save

from ..call import Arrays, Call
from ..spending import Allowance
from .machine import environment

TOLD_EVERY_S = 0.25
LONGEST_NAME = 80  # characters of a file's name in a message
COMPILE_CPU_S = 2.0  # of a simulator, 0.9 to 1.2 measured: nobody can stop it half way, so it must fit the budget


def simulate(call: Call) -> tuple[dict[str, Any], Arrays]:
    """``params``: domain, trajectories, frames, size, seed, out, granted_mj, watts_per_core; maybe variant.

    Raises:
        BudgetTooSmall: nothing was computed yet.
        BudgetExhausted: it would not have ended within the budget.
        UnknownDomain: no simulator of that name.
        InvalidInput: no such variant of it.
    """
    params = call.params
    simulator = get_domain(params["domain"])
    simulator.check(params.get("variant"))
    least_mj = round(1000 * COMPILE_CPU_S * float(params["watts_per_core"]))
    require_useful(call.spending.granted_mj, least_mj, f"a simulation of {params['domain']}, to begin with,")
    allowance = Allowance(call.spending, stop=call.stop_reason)
    call.progress(phase="simulating", step=0)

    def progress(done: int, total: int) -> None:
        allowance.require(done, f"simulating {params['domain']}")
        call.progress(phase="simulating", step=done, steps=total)

    shape = (params["trajectories"], params["frames"], params["size"])
    sequences = simulator.simulate(*shape, params["seed"], progress, variant=params.get("variant"))
    save(sequences, Path(params["out"]))
    return made(call, missing=0)


def import_file(call: Call) -> tuple[dict[str, Any], Arrays]:
    """``params``: path, filename (as its user calls it), array, units, dt_s, dx_m (each may be None), domain, out,
    granted_mj, watts_per_core.

    Raises:
        InvalidFile: it cannot be read safely; of a small file nothing is charged then.
        BudgetExhausted: it would not have ended within the budget.
    """
    params = call.params
    allowance = Allowance(call.spending, stop=call.stop_reason)
    told_s = time.monotonic()

    def progress(done: int, frames: int) -> None:
        nonlocal told_s
        if done < frames:
            allowance.require(done, "reading the file")
            if time.monotonic() - told_s < TOLD_EVERY_S:
                return  # and not before: what is charged cannot be refused any more
            told_s = time.monotonic()
            call.progress(phase="reading", step=done, steps=frames)

    path, called = Path(params["path"]), _printable(params["filename"])
    meant = Meant(params["domain"], params["units"], params["dt_s"], params["dx_m"], called)
    try:
        taken = take_in(path, Path(params["out"]), meant, array=params["array"], progress=progress)
    except InvalidFile as error:
        raise InvalidFile(_as_called(str(error), path.name, called)) from error
    frames = taken.shape[0] * taken.shape[1]
    call.progress(phase="reading", step=frames, steps=frames)
    return made(call, taken.missing)


def _printable(filename: str) -> str:
    return "".join(one if one.isprintable() else "?" for one in filename[:LONGEST_NAME])


def _as_called(text: str, name: str, called: str) -> str:
    """``text`` on the file ``name``, with what its user calls it: readers see a link of ours."""
    return called + text.removeprefix(name) if text.startswith(name) else text


def made(call: Call, missing: int) -> tuple[dict[str, Any], Arrays]:
    """What lies at ``params["out"]``, and what it looks like: series by name, if the budget still has room for that."""
    sequences = open_sequences(Path(call.params["out"]))
    meta, shape = sequences.meta, sequences.values.shape
    sides = dict(zip(("trajectories", "frames", "height", "width"), shape, strict=True))
    more = {"variant": meta.provenance["variant"]} if "variant" in meta.provenance else {}
    if sequences.channels:
        more["channels"] = ", ".join(sorted(sequences.channels))
    allowance = Allowance(call.spending, stop=call.stop_reason)
    try:
        found = describe(sequences, lambda done, of: allowance.require(done, "describing the data"))
    except BudgetExhausted:  # the data was paid for and is there; that is what was asked for
        series, statistics = {}, {}
    else:
        series = {name: getattr(found, name) for name in ("total", "entropy", "spectrum", "descriptor")}
        statistics = found.statistics
    return {
        "about": sides | more | {"units": meta.units, "dt_s": meta.dt_s, "dx_m": meta.dx_m, "masked_cells": missing},
        "meta": asdict(meta) | {"provenance": dict(meta.provenance)},
        "series": list(series),
        "statistics": statistics,
        "environment": environment(),
    }, list(series.values())
