"""The ``nvp`` command."""

from __future__ import annotations


def main() -> None:
    """Run ``nvp``; what goes wrong is one line on standard error and an exit status, never a traceback."""
    from nvp_agentkit.cli.app import run

    run()
