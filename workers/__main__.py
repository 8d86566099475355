"""``python -m workers NAME``"""

from __future__ import annotations

import sys

from nvp_agentkit.errors import InvalidInput
from nvp_agentkit.settings import Settings

from .main import KINDS, run, serve_of

if len(sys.argv) != 2:
    sys.exit(f"usage: python -m workers NAME, where NAME is one of {', '.join(KINDS)} (shadow-1, shadow-2, ...)")
try:
    serve = serve_of(sys.argv[1])
    settings = Settings.from_env()
except InvalidInput as error:
    sys.exit(str(error))
run(sys.argv[1], settings, serve)
