"""Arrays and files by content: `Artifacts` over a local folder, an S3 bucket or memory."""

from nvp_agentkit.artifacts.arrays import inline_array
from nvp_agentkit.artifacts.store import Artifacts

__all__ = ["Artifacts", "inline_array"]
