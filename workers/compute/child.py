"""The compute child: ``python -m ...compute.child PIPE_FD ARENA_FD ARENA_BYTES PARENT_PID``.

Reads calls from the pipe, runs them in its main thread, answers. It is given no credentials and opens no
connection; it dies with its front.
"""

from __future__ import annotations

import json
import socket
import sys
import traceback
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nvp_agentkit.embedded.tether import die_with_parent
from nvp_agentkit.errors import BudgetTooSmall, NvpError
from nvp_agentkit.observability.stderr import make_lossy

from .arena import Arena
from .spending import Spending, resident_gb, used_cpu_s
from .wire import BlockingWire, Frame

Arrays = list[NDArray[Any]]
Operation = Callable[["Call"], tuple[dict[str, Any], Arrays]]


class Call:
    """One call as an operation sees it: parameters, arrays, and the way to tell how it goes."""

    def __init__(self, params: dict[str, Any], arrays: Arrays, wire: BlockingWire) -> None:
        self.params = params
        self.arrays = arrays
        self.spending = Spending(
            int(params.get("granted_mj", 0)), float(params.get("watts_per_core", 0.0)), int(params.get("margin_mj", 0))
        )
        self._wire = wire
        self._stop: str | None = None

    def progress(self, **told: Any) -> None:
        """Send one progress frame, with the joules used so far."""
        reading = self.spending.reading()
        self._wire.send({"progress": told | {"used_mj": reading.mj, "method": reading.method}})

    def stop_reason(self) -> str | None:
        """Why the front wants this call to stop at its next step, or None."""
        while self._wire.pending():
            frame = self._wire.receive()
            if frame.get("control") == "stop":
                self._stop = str(frame["reason"])
        return self._stop


def serve(wire: BlockingWire, arena: Arena, operations: Mapping[str, Operation]) -> None:
    """Answer calls until the front hangs up."""
    wire.send({"ready": True, "life_cpu_s": used_cpu_s()})
    while True:
        try:
            frame = wire.receive()
        except EOFError:
            return
        if "op" in frame:
            wire.send(_answer(frame, wire, arena, operations))


def _answer(frame: Frame, wire: BlockingWire, arena: Arena, operations: Mapping[str, Operation]) -> Frame:
    call = Call(frame["params"], arena.take(frame["arrays"]), wire)
    try:
        values, arrays = operations[frame["op"]](call)
        json.dumps(values)  # a result that is no JSON is the operation's fault, and must not kill the child
        answer: Frame = {"result": values, "arrays": arena.put([np.asarray(array) for array in arrays], upper=True)}
    except NvpError as error:
        needed_mj = error.needed_mj if isinstance(error, BudgetTooSmall) else None
        answer = {"error": {"code": error.code, "detail": str(error), "needed_mj": needed_mj}}
    except Exception as error:  # noqa: BLE001 - a defect: answered, on record, not tried again at the asker's cost
        traceback.print_exc()
        answer = {"error": {"code": NvpError.code, "detail": f"{frame['op']}: {type(error).__name__}: {error}"}}
    spending = call.spending
    return answer | {
        "cpu_s": spending.cpu_s,
        "wall_s": spending.wall_s,
        "rss_gb": resident_gb(),
        "life_cpu_s": used_cpu_s(),
    }


def main(argv: list[str]) -> None:
    pipe_fd, arena_fd, arena_bytes, parent = (int(argument) for argument in argv)
    die_with_parent(parent)
    make_lossy()
    from .operations import OPERATIONS  # imports JAX, after the tether holds

    with socket.socket(fileno=pipe_fd) as pipe:
        serve(BlockingWire(pipe), Arena.attach(arena_fd, arena_bytes), OPERATIONS)


if __name__ == "__main__":
    main(sys.argv[1:])
