"""``python -m nvp_agentkit.cli``, the same as ``nvp``."""

from nvp_agentkit.cli import main

main()
