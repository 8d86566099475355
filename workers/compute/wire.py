"""Frames on the pipe between front and child: four bytes of length, then JSON. Nothing is unpickled."""

from __future__ import annotations

import asyncio
import json
import select
import socket
import struct
from typing import Any

MAX_FRAME_BYTES = 16 * 1024 * 1024
_LENGTH = struct.Struct(">I")

Frame = dict[str, Any]


def pack(frame: Frame) -> bytes:
    body = json.dumps(frame, separators=(",", ":")).encode()
    return _LENGTH.pack(len(body)) + body


def _length(header: bytes) -> int:
    (length,) = _LENGTH.unpack(header)
    if length > MAX_FRAME_BYTES:
        raise ConnectionError(f"frame of {length} bytes, limit {MAX_FRAME_BYTES}: the pipe is out of step")
    return int(length)


async def read_frame(reader: asyncio.StreamReader) -> Frame:
    """The next frame; raises ``asyncio.IncompleteReadError`` when the other side is gone."""
    frame: Frame = json.loads(await reader.readexactly(_length(await reader.readexactly(_LENGTH.size))))
    return frame


class BlockingWire:
    """The child's side: it computes in its main thread and looks at the pipe in between."""

    def __init__(self, pipe: socket.socket) -> None:
        self._pipe = pipe

    def send(self, frame: Frame) -> None:
        self._pipe.sendall(pack(frame))

    def receive(self) -> Frame:
        """The next frame; raises ``EOFError`` when the front is gone."""
        frame: Frame = json.loads(self._exactly(_length(self._exactly(_LENGTH.size))))
        return frame

    def pending(self) -> bool:
        """Whether a frame is waiting; costs a system call, no wait."""
        return bool(select.select([self._pipe], [], [], 0)[0])

    def _exactly(self, count: int) -> bytes:
        parts = []
        while count:
            part = self._pipe.recv(min(count, 1 << 20))
            if not part:
                raise EOFError("the front is gone")
            parts.append(part)
            count -= len(part)
        return b"".join(parts)
