"""A TCP relay that can be cut and mended, or hold back what goes through it: how tests let a server be away."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from urllib.parse import urlsplit


class Relay:
    """To the server of ``uri``, at ``port`` of 127.0.0.1 (0: one that is free, kept once it was found)."""

    def __init__(self, uri: str, port: int = 0) -> None:
        place = urlsplit(uri)
        self._target = (place.hostname, place.port)
        self._tasks: set[asyncio.Task[None]] = set()
        self.flows = asyncio.Event()  # clear it, and connections stay open and nothing comes through
        self.flows.set()
        self.port = port

    async def mend(self) -> None:
        self._server = await asyncio.start_server(self._relay, "127.0.0.1", self.port)
        self.port = self._server.sockets[0].getsockname()[1]

    async def cut(self) -> None:
        self._server.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._server.wait_closed()

    async def _relay(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        there, back = await asyncio.open_connection(*self._target)
        for source, sink in ((reader, back), (there, writer)):
            task = asyncio.create_task(self._copy(source, sink))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _copy(self, source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
        try:
            with suppress(ConnectionError):
                while chunk := await source.read(65_536):
                    await self.flows.wait()
                    sink.write(chunk)
                    await sink.drain()
        finally:
            sink.close()
