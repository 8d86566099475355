"""A compute child that computes nothing: it takes its time and says what that cost, always the same."""

from __future__ import annotations

import os
import signal
import socket
import sys
import time
from functools import partial
from typing import Any

from nvp_agentkit.embedded.tether import die_with_parent
from nvp_agentkit.workers.compute.arena import Arena
from nvp_agentkit.workers.compute.child import serve
from nvp_agentkit.workers.compute.spending import used_cpu_s
from nvp_agentkit.workers.compute.wire import BlockingWire

COST_S = 0.025  # CPU-seconds a call: 100 mJ at 4 W a core
COST_MJ = 100
STEPS, STEP_S = 4, 0.005
POISON = 666.0  # the first value of a field that kills its worker


def main(argv: list[str]) -> None:
    pipe_fd, arena_fd, arena_bytes, parent = (int(argument) for argument in argv)
    die_with_parent(parent)
    arena = Arena.attach(arena_fd, arena_bytes)
    with socket.socket(fileno=pipe_fd) as pipe:
        wire = BlockingWire(pipe)
        serve(wire, partial(_answer, wire, arena))


def _answer(wire: BlockingWire, arena: Arena, frame: dict[str, Any]) -> dict[str, Any]:
    arrays = [array.copy() for array in arena.take(frame["arrays"])]
    if arrays and arrays[0].flat[0] == POISON:
        os.kill(os.getppid(), signal.SIGKILL)
    for step in range(STEPS):
        time.sleep(STEP_S)
        if frame["op"] == "check":
            used_mj = COST_MJ * (step + 1) // STEPS
            wire.send({"progress": {"phase": "check", "step": step, "used_mj": used_mj, "method": "modelled"}})
    values: dict[str, Any] = {"name": "persistence"}
    if frame["op"] == "check":
        values = {"about": {"wrong": 0}, "environment": {}}
    told = [arrays[0][-1], arrays[0][-1] * 0] if arrays else []
    cost = {"cpu_s": COST_S, "wall_s": 0.0, "rss_gb": 0.0, "life_cpu_s": used_cpu_s()}
    return {"result": values, "arrays": arena.put(told, upper=True)} | cost


if __name__ == "__main__":
    main(sys.argv[1:])
