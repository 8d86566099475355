"""The artifact store, where it is not in the data folder: can it be written and read?"""

from __future__ import annotations

from nvp_agentkit.cli.doctor.finding import Finding, broken, ok
from nvp_agentkit.settings import Settings

NAME = "artifacts"
PROBE = b"nvp doctor was here\n"


async def findings(settings: Settings) -> list[Finding]:
    """Put one small object, the same each time, and get it again."""
    from nvp_agentkit.artifacts import Artifacts
    from nvp_agentkit.errors import NvpError

    if settings.artifacts_url is None:
        return []
    try:
        store = Artifacts.from_settings(settings)
        await store.get(await store.put(PROBE, "text/plain"))
    except NvpError as error:
        what, _, remedy = str(error).partition("; ")
        return [broken(NAME, what, remedy or "correct NVP_ARTIFACTS_URL, or the permissions there")]
    return [ok(NAME, f"{settings.artifacts_url} can be written and read")]
