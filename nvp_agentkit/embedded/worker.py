"""One worker process, kept alive: started, watched by its heartbeat, started again when it ends."""

from __future__ import annotations

import asyncio
import os
import shutil
import subprocess
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from redis.asyncio import Redis
from redis.exceptions import RedisError

from nvp_agentkit.embedded import children
from nvp_agentkit.embedded.stack import StackEvent, State
from nvp_agentkit.errors import StackError

POLL_S = 0.2
ANSWER_S = 2.0
BACK_OFF_S = (0.5, 1.0, 2.0, 5.0, 15.0, 30.0)
HOPELESS = 3  # ends in a row before it was ready once: whoever waits for it is told
SAID: dict[str, State] = {"ready": "ready", "draining": "draining"}  # of a heartbeat's states, those worth telling
LOG_BYTES = 8_000_000


@dataclass(frozen=True)
class WorkerSpec:
    """A worker to run.

    ``heartbeat`` is the Redis hash (fields ``state``, ``pid``, ``detail``) in which the worker says that it
    is really ready; ``env`` is added to what every worker gets; ``probes`` is the URL where it answers, if it does.
    """

    name: str
    argv: Sequence[str]
    heartbeat: str
    env: Mapping[str, str] = field(default_factory=dict)
    probes: str = ""


class KeptWorker:
    """Keeps one worker running until `end`."""

    def __init__(self, spec: WorkerSpec, data_dir: Path, on_event: Callable[[StackEvent], None]) -> None:
        self.spec = spec
        self.ready: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.process: subprocess.Popen[bytes] | None = None
        self.log = data_dir / "logs" / f"{spec.name}.log"
        self._data_dir = data_dir
        self._on_event = on_event

    async def keep(self, redis: Redis, environment: Mapping[str, str]) -> None:
        """Run the worker for ever; cancel this, then `end`."""
        failures = 0
        while True:
            try:
                process = self._launch(environment)
            except OSError as error:  # no room for its log, no process to be had
                failures, reason = failures + 1, f"cannot be started: {error}"
            else:
                failures = 1 if await self._watch(redis, process) else failures + 1
                status = await children.end(process, grace_s=0.0)  # a compute child that it left behind
                reason = f"ended with status {status}"
            pause = BACK_OFF_S[min(failures, len(BACK_OFF_S)) - 1]
            if failures >= HOPELESS and not self.ready.done():
                self.ready.set_exception(self._hopeless(failures, reason))
            self._tell("restarting", f"{reason}, again in {pause:g} s; see {self.log}")
            await asyncio.sleep(pause)

    async def end(self, *, grace_s: float) -> None:
        """End the worker and all it started."""
        self.ready.cancel()
        if self.process is not None:
            await children.end(self.process, grace_s=grace_s)
            self._tell("ended")

    def _launch(self, environment: Mapping[str, str]) -> subprocess.Popen[bytes]:
        self.log.parent.mkdir(parents=True, exist_ok=True)
        self._cut_log()
        self._tell("starting")
        self.process = children.launch(
            self.spec.argv, env={**environment, **self.spec.env}, log=self.log, folder=self._data_dir
        )
        return self.process

    async def _watch(self, redis: Redis, process: subprocess.Popen[bytes]) -> bool:
        """Follow the heartbeat until the process ends; True if it was ready at any time."""
        seen: State = "starting"
        was_ready = False
        while not await children.gone(process, within_s=POLL_S):
            self._cut_log()
            said, detail = await self._heartbeat(redis, process.pid)
            state = SAID.get(said, seen)
            if state == seen:
                continue
            seen = state
            self._tell(seen, detail)
            if seen == "ready" and not self.ready.done():
                self.ready.set_result(None)
            was_ready = was_ready or seen == "ready"
        return was_ready

    def _cut_log(self) -> None:
        """Set aside what the log holds once that is much. The worker appends, and goes on in the emptied file."""
        if self.log.exists() and self.log.stat().st_size > LOG_BYTES:
            with suppress(OSError):  # no room for a copy: then what is old is lost, and there is room
                shutil.copyfile(self.log, self.log.with_suffix(".log.1"))
            os.truncate(self.log, 0)

    async def _heartbeat(self, redis: Redis, pid: int) -> tuple[str, str]:
        """State and detail of this very process; what an earlier one said does not count."""
        try:
            async with asyncio.timeout(ANSWER_S):
                state, said_by, detail = await redis.hmget(self.spec.heartbeat, "state", "pid", "detail")
        except (RedisError, OSError):  # the stream server is away: `Supervisor` sees to it
            return "", ""
        return (_text(state) if _text(said_by) == str(pid) else ""), _text(detail)

    def _hopeless(self, failures: int, reason: str) -> StackError:
        tail = self.log.read_bytes()[-2000:].decode(errors="replace").strip() if self.log.exists() else ""
        return StackError(f"worker {self.spec.name} {reason} before it was ready, {failures} times in a row; "
                          f"the end of {self.log}:\n{tail}")

    def _tell(self, state: State, detail: str = "") -> None:
        self._on_event(StackEvent(self.spec.name, state, detail))


def _text(value: bytes | str | None) -> str:
    return value.decode() if isinstance(value, bytes) else value or ""
