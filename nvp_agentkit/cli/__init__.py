"""The ``nvp`` command."""

from __future__ import annotations

import sys


def main() -> None:
    """Run ``nvp``; what goes wrong is one line on standard error and an exit status, never a traceback."""
    try:
        from nvp_agentkit.cli.app import run

        run()
    except KeyboardInterrupt:
        sys.exit(130)  # `options.INTERRUPTED`, which may not be there yet: most of a command's time is its imports
