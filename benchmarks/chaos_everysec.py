"""`chaos` with a stream server that writes to its disk once a second: what that may lose is told apart.

A process that is killed loses nothing by it, for the system has what was written, unless a write had to wait for a sync
that was slow; a disk that is full may lose the write that found it so, though it was acknowledged (docs/streams.md).
"""

from __future__ import annotations

from functools import partial

from benchmarks import chaos

measure = partial(chaos.measure, fsync="everysec")
