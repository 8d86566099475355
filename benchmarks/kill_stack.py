"""A stack is killed at random moments: is anything left running, and is its folder good for the next one?

A seed chooses what is started (``nvp up`` or ``nvp demo``, on a new folder or on that of the last round), when it is
killed and who: the supervisor, or a store, a worker or a compute child of it. SIGKILL, always. After five seconds
nothing may carry the folder's mark; `nvp up` on the same folder must then answer a forecast; and what the stack had
acknowledged to an agent (`witness`) must still be so. Where a child was killed, the stack has to recover by itself
first, and loses its supervisor after that.
"""

from __future__ import annotations

import asyncio
import math
import os
import random
import signal
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from benchmarks.process_tree import environment, tethered
from benchmarks.verdict import BrokenError, Figure
from benchmarks.witness import TROUBLE, Witness
from nvp_agentkit.embedded import lock
from nvp_agentkit.embedded.supervisor import ends_on_signal

ROUNDS, LONGEST_S = 50, 30.0
SEED = 1
GONE_WITHIN_S = 5.0
READY_WITHIN_S = 120.0
LEASE_S = "5"  # how soon work of a killed worker is taken over; 15 s by default
VICTIMS = ("supervisor",) * 6 + ("valkey", "arcadedb", "front", "compute")
NVP = (sys.executable, "-m", "nvp_agentkit.cli")
Command = Callable[[Path], Sequence[str]]


@dataclass(frozen=True)
class Plan:
    """One round: what is started, where, who is killed and when: ``after_s`` seconds after the start.

    ``at_work``: but not before it has answered a request, and where a stack runs already it is that one.
    """

    demo: bool
    fresh: bool
    victim: str
    which: float
    after_s: float
    at_work: bool = False

    @classmethod
    def of(cls, rng: random.Random) -> Plan:
        """Early moments, in which a folder is made, are likelier than late ones. A demo has its supervisor killed."""
        demo, fresh, victim = rng.random() < 0.2, rng.random() < 0.3, rng.choice(VICTIMS)
        return cls(demo, fresh, "supervisor" if demo else victim, rng.random(), LONGEST_S * rng.random() ** 2)


QUICK = (
    Plan(demo=False, fresh=True, victim="arcadedb", which=0.0, after_s=2.5),
    Plan(demo=False, fresh=False, victim="supervisor", which=0.0, after_s=0.0, at_work=True),
)


@dataclass(frozen=True)
class Commands:
    """``up`` and ``demo`` run the stack until they are killed; ``again`` leaves it in the background, ready."""

    up: Command = lambda folder: (*NVP, "up", "--foreground", "--data-dir", str(folder))
    demo: Command = lambda folder: (*NVP, "demo", "--size", "32", "--budget-j", "180", "--data-dir", str(folder))
    again: Command = lambda folder: (*NVP, "up", "--data-dir", str(folder))


@dataclass
class Outcome:
    """What all rounds together came to."""

    kills: int = 0
    left_over: int = 0
    unusable: int = 0
    broken: list[str] = field(default_factory=list)
    promises: int = 0
    gone_s: list[float] = field(default_factory=list)
    again_s: list[float] = field(default_factory=list)

    def figures(self, *, quick: bool) -> dict[str, Figure]:
        median_s = round(statistics.median(self.again_s), 1) if self.again_s else None
        return {
            "kills": Figure(self.kills, "kills", floor=None if quick else ROUNDS, higher_is_better=True),
            "left_over": Figure(self.left_over, "processes", floor=0),
            "unusable": Figure(self.unusable, "folders", floor=0),
            "broken_promises": Figure(len(self.broken), "promises", floor=0),
            "promises": Figure(self.promises, "promises"),
            "gone_max_s": Figure(round(max(self.gone_s, default=0.0), 2), "s", floor=GONE_WITHIN_S),
            "answers_again_p50_s": Figure(median_s, "s"),
            "answers_again_max_s": Figure(round(max(self.again_s), 1) if self.again_s else None, "s"),
        }


def measure(*, quick: bool) -> dict[str, Figure]:
    """Fifty kills within 30 s of a start; ``quick`` is two, of a store that starts and of a stack at work."""
    rng = random.Random(SEED)
    plans = QUICK if quick else [Plan.of(rng) for _ in range(ROUNDS)]
    with tempfile.TemporaryDirectory(prefix="nvp-") as root:
        outcome = asyncio.run(_play_all(Path(root), plans))
    return outcome.figures(quick=quick)


async def _play_all(root: Path, plans: Sequence[Plan]) -> Outcome:
    with ends_on_signal():
        return await play(root, plans)
    raise BrokenError("ended by a signal before its last round")


async def play(root: Path, plans: Sequence[Plan], commands: Commands | None = None) -> Outcome:
    """Play the rounds on folders under ``root``. Whatever happens, nothing is left running."""
    killing = Killing(root, commands or Commands())
    try:
        for number, plan in enumerate(plans, 1):
            print(f"{number:3d}  {await killing.round(plan)}", flush=True)
    finally:
        await killing.end()
    return killing.outcome


class Killing:
    """The rounds' common state: one folder after another, each with its stack and its witness."""

    def __init__(self, root: Path, commands: Commands) -> None:
        self.outcome = Outcome()
        self._root, self._commands = root, commands
        self._folders = 0
        self._process: asyncio.subprocess.Process | None = None  # what was started here, if anything
        self._new_folder()

    async def round(self, plan: Plan) -> str:
        """Start, kill, look, start again, ask; in words."""
        goes_on = self._supervisor is not None and (plan.at_work or self._age_s < plan.after_s)
        if plan.fresh or plan.demo or not goes_on:
            await (self._leave() if plan.fresh else self.end())
            await self._start(self._commands.demo if plan.demo else self._commands.up)
        told = f"{'demo' if plan.demo else 'up':<4} {'new' if plan.fresh else '':<3} "
        try:
            victim, after_s = await self._kill_at_work(plan)
            told += f"{victim:<10} at {after_s:5.1f} s: "
            if victim != "supervisor":
                await self._witness.forecast(within_s=READY_WITHIN_S)
                await self.end()
            told += f"gone in {self.outcome.gone_s[-1]:.2f} s, answers again in {await self._again():.1f} s, "
            broken = await self._witness.broken()
        except (BrokenError, *TROUBLE) as error:
            self.outcome.unusable += 1
            await self._leave()
            return f"{told}UNUSABLE: {error}"
        told += f"{self._witness.promises} promises"
        if broken:
            self.outcome.broken += broken
            await self._leave()
        return told + "".join(f"\n     BROKEN: {one}" for one in broken)

    async def end(self) -> None:
        """Kill the supervisor, if one runs, and see that all it had started is gone."""
        if (pid := self._supervisor) is not None:
            os.kill(pid, signal.SIGKILL)
            await self._see_all_gone()
        if self._process is not None:
            await self._process.wait()
            self._process = None

    @property
    def _supervisor(self) -> int | None:
        if self._process is not None and self._process.returncode is None:
            return self._process.pid
        return lock.holder(self._folder)

    @property
    def _age_s(self) -> float:
        """Since the running stack was started; endless where none runs."""
        return math.inf if self._supervisor is None else time.monotonic() - self._began

    async def _leave(self) -> None:
        """Go on with a new folder."""
        await self.end()
        self._new_folder()

    def _new_folder(self) -> None:
        self._folders += 1
        self._folder = self._root / f"folder {self._folders}"
        self._witness = Witness(self._folder)

    async def _start(self, command: Command) -> None:
        self._began = time.monotonic()
        with (self._root / "output").open("ab") as output:
            self._process = await asyncio.create_subprocess_exec(
                *command(self._folder), stdin=asyncio.subprocess.DEVNULL, stdout=output, stderr=output,
                env=environment(NVP_LEASE_S=LEASE_S), cwd=self._root, start_new_session=True,
            )  # fmt: skip

    async def _kill_at_work(self, plan: Plan) -> tuple[str, float]:
        """Kill while the witness is at it; who it was (the supervisor where the child is not there yet), and when.

        Raises:
            BrokenError: the stack had ended by itself.
        """
        before, stop = self._witness.promises, asyncio.Event()
        working = asyncio.create_task(self._witness.work(stop))
        await asyncio.sleep(max(0.0, self._began + plan.after_s - time.monotonic()))
        if plan.at_work:
            await self._witness.answered(within_s=READY_WITHIN_S)
        ended = self._supervisor is None
        after_s = time.monotonic() - self._began
        pids = self._children(plan.victim)
        if pids:
            os.kill(pids[int(plan.which * len(pids))], signal.SIGKILL)
        else:
            await self.end()
        stop.set()
        await working
        if ended:
            raise BrokenError(f"it ended by itself; see {self._root / 'output'}")
        self.outcome.kills += 1
        self.outcome.promises += self._witness.promises - before
        return plan.victim if pids else "supervisor", after_s

    def _children(self, kind: str) -> list[int]:
        return [pid for pid, found in tethered(self._folder).items() if found == kind]

    async def _see_all_gone(self) -> None:
        began = time.monotonic()
        while left := tethered(self._folder):
            if time.monotonic() - began > GONE_WITHIN_S:
                break
            await asyncio.sleep(0.02)
        self.outcome.gone_s.append(time.monotonic() - began)
        self.outcome.left_over += len(left)
        for pid in left:
            os.kill(pid, signal.SIGKILL)

    async def _again(self) -> float:
        """Start the stack on the same folder and have a forecast; seconds until then.

        Raises:
            BrokenError: it does not start.
        """
        self._began = time.monotonic()
        starting = await asyncio.create_subprocess_exec(
            *self._commands.again(self._folder), stdin=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT, env=environment(NVP_LEASE_S=LEASE_S), cwd=self._root,
        )  # fmt: skip
        said, _ = await starting.communicate()
        if starting.returncode:
            raise BrokenError(f"status {starting.returncode}: {said.decode(errors='replace').strip()[-500:]}")
        await self._witness.forecast(within_s=READY_WITHIN_S)
        self.outcome.again_s.append(time.monotonic() - self._began)
        return self.outcome.again_s[-1]
