"""A thousand requests on a real stack while its processes are killed, stopped and cut off: is each done once, and paid?

Predictions, jobs and quorums. The product's supervisor runs stores and workers; the compute child is a stub of known
cost (`benchmarks.turmoil`). What goes wrong comes from the seed: SIGKILL and SIGSTOP of fronts and children, SIGKILL of
the stream server and of the graph, stalls, cut connections, a full disk; copies, junk and poison among the requests.
"""

from __future__ import annotations

import asyncio
import random
import tempfile
import time
from pathlib import Path

from benchmarks.process_tree import tethered
from benchmarks.turmoil import schedule
from benchmarks.turmoil.asker import ACCOUNT, Asker
from benchmarks.turmoil.checker import check, unsettled, waiting
from benchmarks.turmoil.found import Found
from benchmarks.turmoil.stack import Stack, running
from benchmarks.verdict import BrokenError, Figure
from nvp_agentkit.embedded.supervisor import ends_on_signal
from nvp_agentkit.energy.ledger import Ledger
from nvp_agentkit.lineage.graph import Graph
from nvp_agentkit.streams import AWAY, register

JOBS, QUICK = 1000, 60
LIMIT_MJ = 10**9
QUIET_WITHIN_S = 400.0
REAP_AT_MS = 2**52  # later than any reservation expires
SHOWN = 20


def measure(*, quick: bool, jobs: int | None = None, seed: int = 1, fsync: str = "always") -> dict[str, Figure]:
    """A thousand jobs; ``quick`` is sixty."""
    jobs = jobs or (QUICK if quick else JOBS)
    rng = random.Random(seed)
    asked = schedule.asked(rng, jobs)
    faults = schedule.faults(rng, asked[-1].at_s)
    began = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="nvp-") as root:
        folder = Path(root) / "stack"
        done, found = asyncio.run(_run(folder, asked, faults, fsync))
        left = tethered(folder)
    for one in (*found.wrong[:SHOWN], *found.innocent[:SHOWN]):
        print(one)
    print(", ".join(f"{count} {kind}" for kind, count in sorted(found.spoken.items())))
    always = fsync == "always"
    return _figures(jobs, done, found, len(left), time.monotonic() - began, quick=quick, always=always)


async def _run(
    folder: Path, asked: list[schedule.Asked], faults: list[schedule.Fault], fsync: str
) -> tuple[dict[str, int], Found]:
    with ends_on_signal():
        async with running(folder, fsync=fsync) as stack:
            await register(stack.redis, ACCOUNT, owner="benchmark")
            await Ledger(stack.redis).create(ACCOUNT, LIMIT_MJ)
            asker = Asker(stack)
            await asyncio.gather(asker.ask(asked), stack.suffer(faults))
            await _until_quiet(stack)
            held = await unsettled(stack.redis, asker)
            await Ledger(stack.redis).reap(REAP_AT_MS)
            async with Graph.connect(stack.settings) as graph:
                return dict(stack.done), await check(stack.redis, graph, asker, held)
    raise BrokenError("ended by a signal")


async def _until_quiet(stack: Stack) -> None:
    """Until every entry is at its end; the checker says what is not."""
    until = time.monotonic() + QUIET_WITHIN_S
    while time.monotonic() < until:
        try:
            if await waiting(stack.redis) == 0:
                return
        except AWAY:
            pass
        await asyncio.sleep(0.2)


def _figures(
    jobs: int, done: dict[str, int], found: Found, left: int, seconds: float, *, quick: bool, always: bool
) -> dict[str, Figure]:
    faults = sum(done.values())
    wrong = len(found.wrong) - (0 if always else len(found.forgotten))
    bound = None if wrong else round(100 * 3 / jobs, 3)  # none of n: the rule of three
    return {
        "lost": Figure(len(found.lost), "jobs", floor=0),
        "forgotten": Figure(len(found.forgotten), "jobs", floor=0 if always else None),
        "doubled": Figure(len(found.doubled), "jobs", floor=0),
        "joules_off": Figure(len(found.joules), "accounts", floor=0),
        "keys_without_ttl": Figure(len(found.left), "keys", floor=0),
        "processes_left": Figure(left, "processes", floor=0),
        "at_most_95": Figure(bound, "%"),
        "jobs": Figure(jobs, "jobs", floor=None if quick else JOBS, higher_is_better=True),
        "certified": Figure(found.spoken["prediction.certified"], "quorums", higher_is_better=True),
        "refused_by_neighbours": Figure(len(found.innocent), "jobs"),
        "cost_as_if_calm": Figure(found.exact, "jobs"),
        "faults": Figure(faults, "faults"),
        **{kind.replace(" ", "_"): Figure(done.get(kind, 0), "faults") for kind in schedule.FAULTS},
        "seconds": Figure(round(seconds, 1), "s"),
    }
