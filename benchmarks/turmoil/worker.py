"""``python -m benchmarks.turmoil.worker NAME``: the product's worker NAME, but for its compute child."""

from __future__ import annotations

import sys

from nvp_agentkit.settings import Settings
from nvp_agentkit.workers.compute import front
from nvp_agentkit.workers.main import run, serve_of

front.CHILD_MODULE = "benchmarks.turmoil.child"
run(sys.argv[1], Settings.from_env(), serve_of(sys.argv[1]))
