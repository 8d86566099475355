"""The compute child: ``python -m ...compute.child PIPE_FD ARENA_FD ARENA_BYTES PARENT_PID``.

Reads calls from the pipe, runs them in its main thread, answers. It is given no credentials and opens no
connection; it dies with its front.
"""

from __future__ import annotations

import errno
import json
import re
import socket
import sys
import traceback
from collections.abc import Callable, Mapping
from functools import partial

import numpy as np

from nvp_agentkit.embedded.tether import die_with_parent
from nvp_agentkit.errors import BudgetTooSmall, NvpError, ResultNotKept
from nvp_agentkit.observability.stderr import make_lossy

from .arena import Arena
from .call import Call, Operation
from .spending import resident_gb, used_cpu_s
from .wire import BlockingWire, Frame

FULL = (errno.ENOSPC, errno.EDQUOT)
IN_RUST = re.compile(r"\(os error (\d+)\)")  # safetensors' word for the number of an OSError


def serve(wire: BlockingWire, answer: Callable[[Frame], Frame]) -> None:
    """Answer calls until the front hangs up."""
    wire.send({"ready": True, "life_cpu_s": used_cpu_s()})
    while True:
        try:
            frame = wire.receive()
        except EOFError:
            return
        if "op" in frame:
            wire.send(answer(frame))


def _answer(wire: BlockingWire, arena: Arena, operations: Mapping[str, Operation], frame: Frame) -> Frame:
    call = Call(frame["params"], arena.take(frame["arrays"]), wire)
    try:
        values, arrays = operations[frame["op"]](call)
        json.dumps(values)  # a result that is no JSON is the operation's fault, and must not kill the child
        answer: Frame = {"result": values, "arrays": arena.put([np.asarray(array) for array in arrays], upper=True)}
    except NvpError as error:
        needed_mj = error.needed_mj if isinstance(error, BudgetTooSmall) else None
        answer = {"error": {"code": error.code, "detail": str(error), "needed_mj": needed_mj}}
    except Exception as error:  # noqa: BLE001 - answered, on record, not tried again at the asker's cost
        traceback.print_exc()
        code, remedy = (ResultNotKept.code, "; make room there") if _disk_full(error) else (NvpError.code, "")
        answer = {"error": {"code": code, "detail": f"{frame['op']}: {type(error).__name__}: {error}{remedy}"}}
    spending = call.spending
    return answer | {
        "cpu_s": spending.cpu_s,
        "wall_s": spending.wall_s,
        "rss_gb": resident_gb(),
        "life_cpu_s": used_cpu_s(),
    }


def _disk_full(error: Exception) -> bool:
    told = IN_RUST.search(str(error))
    number = error.errno if isinstance(error, OSError) else int(told[1]) if told else None
    return number in FULL


def main(argv: list[str]) -> None:
    pipe_fd, arena_fd, arena_bytes, parent = (int(argument) for argument in argv)
    die_with_parent(parent)
    make_lossy()
    from .operations import OPERATIONS  # imports JAX, after the tether holds

    with socket.socket(fileno=pipe_fd) as pipe:
        wire = BlockingWire(pipe)
        serve(wire, partial(_answer, wire, Arena.attach(arena_fd, arena_bytes), OPERATIONS))


if __name__ == "__main__":
    main(sys.argv[1:])
