"""`make test-stack`: build the image, drive the composed stack through good and bad days, say what was seen.

    python tests/stack [--install] [--keep]

It uses docker where a daemon answers, else podman (root, Debian); where neither can be it says so and skips. The same
processes without containers are tested by tests/deploy, always.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import time
import traceback
from collections.abc import Callable
from pathlib import Path

import engine
import steps
from engine import Engine, NoEngine
from stack import Stack

WORK = Path("/var/tmp/nvp-test-stack")  # images are kept here between runs


class Protocol:
    """What was done, how long it took and what was seen, as it happens and as a table at the end."""

    def __init__(self, begun: list[str]) -> None:
        self._lines = begun
        self.failed = False

    def step(self, name: str, work: Callable[..., str], *arguments: object) -> bool:
        began = time.monotonic()
        try:
            seen, mark = work(*arguments), "ok"
        except steps.Skipped as why:
            seen, mark = str(why), "skip"
        except Exception as error:  # noqa: BLE001 - any failure is a line, and the rest is cleaned up
            seen, mark, self.failed = f"{type(error).__name__}: {error}".strip(), "FAILED", True
            traceback.print_exc()
        self.add(f"{mark:<6} {name:<8} {time.monotonic() - began:6.1f} s  {seen.partition(chr(10))[0]}")
        return mark != "FAILED"

    def add(self, line: str) -> None:
        self._lines.append(line)
        print(line, flush=True)

    def table(self) -> str:
        return "\n".join(self._lines)


def _images(use: Engine, protocol: Protocol) -> bool:
    if use.name == "podman" and not protocol.step("images", engine.stand_in_images, use, WORK):
        return False
    return protocol.step("build", use.build)


def drive(use: Engine, protocol: Protocol, *, keep: bool) -> None:
    stack = Stack(use, WORK / "project")
    stack.prepare()
    for step in steps.STEPS:
        if not protocol.step(step.__name__, step, stack):
            print(stack.logs())
            break
        if step is steps.scale:
            for line in steps.memory(stack):
                protocol.add(f"       memory            {line}")
    if not keep:
        protocol.step("down", steps.down, stack)


def main() -> int:
    parser = argparse.ArgumentParser(prog="make test-stack")
    parser.add_argument("--install", action="store_true", help="install what the podman way needs (INSTALL=1)")
    parser.add_argument("--keep", action="store_true", help="leave the stack running (docker)")
    parser.add_argument("--apart", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    WORK.mkdir(exist_ok=True)
    try:
        use = engine.find(WORK, install=options.install)
    except NoEngine as why:
        print(f"SKIPPED the composed stack: {why}. Tested without containers: tests/deploy.")
        return 0
    protocol = Protocol(sys.stdin.read().splitlines() if options.apart else [])
    if options.apart:
        engine.serve(use, WORK)
    elif not _images(use, protocol):
        return 1
    elif use.name == "podman":
        command = [*engine.APART, sys.executable, __file__, "--apart"]
        return subprocess.run(command, input=protocol.table(), text=True, check=False).returncode
    drive(use, protocol, keep=options.keep)
    print(f"\n{use.name}, {'FAILED' if protocol.failed else 'passed'}:\n{protocol.table()}")
    return int(protocol.failed)


if __name__ == "__main__":
    sys.exit(main())
