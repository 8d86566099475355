"""``python -m workers NAME``"""

from __future__ import annotations

import sys

from nvp_agentkit.cli.extras import need_for_worker
from nvp_agentkit.errors import NvpError
from nvp_agentkit.settings import Settings

from . import KINDS

if len(sys.argv) != 2:
    sys.exit(f"usage: python -m workers NAME, where NAME is one of {', '.join(KINDS)} (shadow-1, shadow-2, ...)")
try:
    need_for_worker(sys.argv[1])
    from .main import run, serve_of  # which imports what was just looked for

    serve = serve_of(sys.argv[1])
    settings = Settings.from_env()
except NvpError as error:
    sys.exit(str(error))
run(sys.argv[1], settings, serve)
