"""``stack.json``: how clients find a running stack. Light to import: a client reads it and loads no store's driver."""

from __future__ import annotations

from pathlib import Path

from pydantic import BaseModel, ConfigDict, ValidationError

from nvp_agentkit.embedded import lock
from nvp_agentkit.errors import StackError, StackNotRunning
from nvp_agentkit.settings import Settings


class StackFile(BaseModel):
    """``stack.json``: how to reach a running stack."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    version: str
    pid: int
    started_ms: int
    redis_url: str
    neo4j_uri: str
    neo4j_user: str
    neo4j_password: str | None
    neo4j_database: str
    artifacts_url: str
    root_key: Path | None = None
    probes: dict[str, str] = {}  # worker -> where it answers /live, /ready and /metrics
    ends_within_s: float = 10.0  # once it is told to

    def over(self, settings: Settings) -> Settings:
        """``settings`` led to this stack."""
        mine = self.model_dump(exclude={"version", "pid", "started_ms", "root_key", "probes", "ends_within_s"})
        return settings.model_copy(update=mine)


def read_stack(data_dir: Path) -> StackFile:
    """The running stack of ``data_dir``.

    Raises:
        StackNotRunning: none runs there; a file left by a killed stack does not count.
    """
    path = data_dir / "stack.json"
    try:
        found = StackFile.model_validate_json(path.read_bytes())
    except (FileNotFoundError, NotADirectoryError):
        found = None
    except ValidationError as error:
        raise StackError(
            f"{path} is damaged or was written by another version; `nvp down` and `nvp up` write it anew"
        ) from error
    if found is None or found.pid != lock.holder(data_dir):
        raise StackNotRunning(f"no stack runs on data folder {data_dir}; `nvp up` starts one")
    return found
