"""`nvp top`: one picture of a stack at work; on a terminal again and again, which is as it was afterwards."""

from __future__ import annotations

import asyncio
import io
import os
import pty
import signal
import struct
import subprocess
import sys
import termios
from collections.abc import Callable, Sequence
from fcntl import ioctl
from typing import Any

import pytest
from redis.asyncio import Redis
from rich.console import Console

from nvp_agentkit.cli import deployment
from nvp_agentkit.cli.jobs import Job
from nvp_agentkit.cli.top.frame import frame, shares
from nvp_agentkit.cli.top.look import Queue, Seen
from nvp_agentkit.energy.accounts import Balance
from nvp_agentkit.energy.ledger import Ledger
from nvp_agentkit.streams import names, register
from nvp_agentkit.streams.health import WorkerState, announce

NVP = [sys.executable, "-m", "nvp_agentkit.cli"]


def worker(name: str, state: str = "ready", detail: str = "", age_s: float = 1.0) -> WorkerState:
    return WorkerState(name, "host", "kind", state, detail, 7, at_ms=0, age_s=age_s)


def at(at_s: float, *, read: int = 100, spent_mj: int = 120_000, many: int = 0) -> Seen:
    others = [Balance(f"agent-{n}", 1000, 0, 0) for n in range(many)]
    return Seen(
        [
            worker("inference"),
            worker("recorder", "starting", "\x1b[2J the graph is away " * 9),
            worker("tally", age_s=8),
        ],
        [Queue("predict", "inference", 1204, 16, 2.3, 2, read, "ace-1"), Queue("votes", "tally", 0, 0, 0.0, 0, 9, "")],
        [Job("ace-1", "6f0c1c2e-2f5e", "validating", 50_000, 100_000, 0.0)],
        [Balance("ace-1", 500_000, spent_mj, 108_000), *others],
        at_s=at_s,
    )


def drawn(*looks: Seen, height: int | None = None, width: int = 80, trouble: str = "") -> list[str]:
    console = Console(width=width, file=io.StringIO(), force_terminal=True, color_system=None, height=height or 25)
    before = looks[0] if len(looks) > 1 else None
    console.print(frame(looks[-1], before, title="nvp top  .nvp", height=height, trouble=trouble))
    return console.file.getvalue().splitlines()  # type: ignore[attr-defined]


def row(lines: Sequence[str], begins: str) -> list[str]:
    (found,) = [line.split() for line in lines if line.startswith(begins)]
    return found


def test_a_frame_says_who_is_there_what_waits_which_jobs_run_and_who_pays_how_much_a_second() -> None:
    lines = drawn(at(0.0), at(2.0, read=170, spent_mj=126_400))
    assert "2 of 6 workers ready, 1,204 waiting, 2 dead" in lines[0]
    assert row(lines, "predict") == ["predict", "inference", "1,204", "16", "2.3", "s", "35.0", "2", "ace-1"]
    assert row(lines, "6f0c1c2e") == ["6f0c1c2e", "ace-1", "validating", "50.0", "100.0", "━━━━━─────"]
    assert row(lines, "ace-1") == ["ace-1", "500.0", "126.4", "108.0", "265.6", "3.2"]
    assert row(lines, "training")[:3] == ["training", "✗", "missing"]
    assert "silent for 8 s" in " ".join(row(lines, "tally"))
    assert row(drawn(at(0.0)), "ace-1")[-1] == "272.0", "a first look knows of no second"


@pytest.mark.parametrize(("width", "height"), [(80, 24), (80, 60), (60, 16), (200, 40)])
def test_a_frame_fits_its_screen_and_nothing_in_it_steers_the_terminal(width: int, height: int) -> None:
    lines = drawn(at(0.0, many=300), height=height, width=width, trouble="away " * 50)
    assert len(lines) <= height
    assert max(map(len, lines)) <= width
    assert "\x1b" not in "".join(lines)
    (more,) = [line for line in lines if line.rstrip().endswith("more") and int(line.split()[0]) > 200]
    assert int(more.split()[0]) + sum(line.startswith(("agent-", "ace-1")) for line in lines) == 301


def test_rows_are_shared_out_so_that_small_tables_are_whole() -> None:
    assert shares([6, 9, 2, 300], 40) == [6, 9, 2, 23]
    assert shares([10, 10], 10) == [5, 5]
    assert shares([3, 0], 10) == [3, 0]


@pytest.fixture
async def stack(redis: Redis, account: str, valkey: str, monkeypatch: pytest.MonkeyPatch) -> str:
    """A worker, an account with joules, three requests that wait."""
    await register(redis, account, owner="tests")
    await Ledger(redis).create(account, 5_000)
    await announce(redis, "inference", account, "inference", "ready", "2 models")
    for _ in range(3):
        await redis.xadd(names.key(account, "predict"), {"event": "x"})
    return account


async def test_without_a_terminal_it_is_one_frame_or_one_document(stack, nvp, redis, valkey, monkeypatch) -> None:
    monkeypatch.setenv("NVP_REDIS_URL", valkey)
    said = await asyncio.to_thread(nvp, "top")
    assert said.status == 0
    assert said.out.count("nvp top") == 1
    assert "\x1b" not in said.out
    assert row(said.out.splitlines(), "predict")[:3] == ["predict", "inference", "3"]
    told = (await asyncio.to_thread(nvp, "top", "--json")).json
    assert {"account": stack, "limit_mj": 5_000}.items() <= next(
        a for a in told["accounts"] if a["account"] == stack
    ).items()
    assert next(one for one in told["streams"] if one["stream"] == "predict")["busiest"] == stack
    assert set(told["missing"]) == {*deployment.WORKERS} - {one["name"] for one in told["workers"]}


class Terminal:
    """A terminal of 80 by 24 with `nvp top` on it."""

    def __init__(self, redis_url: str) -> None:
        self.ours, self.theirs = pty.openpty()
        ioctl(self.theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 80, 0, 0))
        self.before = termios.tcgetattr(self.theirs)
        rest = {
            k: v
            for k, v in os.environ.items()
            if not k.startswith("NVP_") and k not in ("COLUMNS", "LINES", "NO_COLOR")
        }
        self.process = subprocess.Popen(
            [*NVP, "top", "--every", "0.2"], stdin=self.theirs, stdout=self.theirs, stderr=self.theirs,
            env=rest | {"TERM": "xterm-256color", "NVP_REDIS_URL": redis_url},
        )  # fmt: skip
        self.said = ""

    def until(self, seen: Callable[[str], Any]) -> None:
        while not seen(self.said):
            self.said += os.read(self.ours, 65_536).decode(errors="replace")

    def end(self, number: int) -> int:
        self.process.send_signal(number)
        status = self.process.wait(timeout=10)
        os.set_blocking(self.ours, False)
        try:
            while part := os.read(self.ours, 65_536):
                self.said += part.decode(errors="replace")
        except BlockingIOError:
            pass
        return status


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
async def test_on_a_terminal_it_is_drawn_anew_and_whatever_ends_it_leaves_the_terminal_as_it_was(
    stack, valkey, number
) -> None:
    terminal = Terminal(valkey)
    await asyncio.to_thread(terminal.until, lambda said: said.count("workers ready") >= 3)
    status = await asyncio.to_thread(terminal.end, number)
    assert status == 0, terminal.said
    entered, left = terminal.said.rfind("\x1b[?1049h"), terminal.said.rfind("\x1b[?1049l")
    assert 0 <= entered < left, "a screen of its own, and back"
    assert terminal.said.rfind("\x1b[?25h") > terminal.said.rfind("\x1b[?25l"), "the cursor is there again"
    assert termios.tcgetattr(terminal.theirs) == terminal.before
    os.close(terminal.ours)
    os.close(terminal.theirs)
