"""One call of the compute child, as an operation sees it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from numpy.typing import NDArray

from .spending import Spending
from .wire import BlockingWire

Arrays = list[NDArray[Any]]
Operation = Callable[["Call"], tuple[dict[str, Any], Arrays]]


class Call:
    """Parameters, arrays, the joules of it, and the way to tell how it goes."""

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
