"""NVP AgentKit: forecasts of 2-D energy fields that agents can pay for, check and trace."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from nvp_agentkit.client import AgentClient, SyncAgentClient

__version__ = "0.1.0"
__all__ = ["AgentClient", "SyncAgentClient", "__version__"]


def __getattr__(name: str) -> object:
    if name in ("AgentClient", "SyncAgentClient"):
        return getattr(importlib.import_module("nvp_agentkit.client"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
