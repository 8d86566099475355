"""A worker for these tests: ``worker_program.py NAME [dies|stubborn|talks|drains]``. As a real one it has a child."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time

from redis import Redis

from nvp_agentkit.embedded import tether

name, manner = sys.argv[1], sys.argv[2] if len(sys.argv) > 2 else ""
if manner == "dies":
    sys.exit("no such model")
if manner == "stubborn":
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
if manner == "drains":
    drain_s = float(os.environ["NVP_DRAIN_TIMEOUT_S"])
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(time.sleep(drain_s) or "drained"))
tethered = [sys.executable, tether.__file__, str(os.getpid())]
child = subprocess.Popen([*tethered, sys.executable, "-c", "import time; time.sleep(600)"])
with Redis.from_url(os.environ["NVP_REDIS_URL"]) as redis:
    beat = {"state": "ready", "pid": os.getpid(), "detail": f"child {child.pid}"}
    redis.hset(f"nvp:{{registry}}:worker:{name}", mapping=beat)
while manner == "talks":
    print("x" * 99, flush=True)
    time.sleep(0.002)
time.sleep(600)
