"""Where things are: URLs, folders, credentials, log level. Never what changes a number.

Read from ``NVP_*`` variables and from nothing else; with none set everything is embedded under
``data_dir`` and clients find the running stack through ``data_dir/stack.json``.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Mapping
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from nvp_agentkit.errors import InvalidInput

VOTERS = ("voter-0", "voter-1", "voter-2")  # of a deployment: each a worker, a key and a consumer group


class Settings(BaseModel):
    """One place's settings. Each field is the variable ``NVP_<FIELD>``."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    data_dir: Path = Field(Path(".nvp"), description="folder of the embedded stores, keys and artifacts")
    redis_url: str | None = Field(None, description="redis://... of a server to use instead of the embedded one")
    neo4j_uri: str | None = Field(None, description="bolt://... of a graph to use instead of the embedded one")
    neo4j_user: str = Field("neo4j", description="user at the graph")
    neo4j_password: str | None = Field(None, description="password at the graph")
    neo4j_database: str = Field("neo4j", description="database at the graph")
    artifacts_url: str | None = Field(None, description="where arrays live: a folder, or s3://bucket/prefix")
    account: str | None = Field(None, description="the account a client speaks for")
    account_password: str | None = Field(None, description="that account's password at the stream server")
    watts_per_core: float = Field(4.0, gt=0, le=500, description="power of one busy core where no sensor is")
    sensor: str = Field(
        "modelled",
        description="what counts joules of `nvp train` and `nvp evaluate`: modelled, best, rapl, nvml or a plug-in",
    )
    max_cells: int = Field(16_777_216, gt=0, description="most cells (frames x height x width) of one request")
    models_mb: float = Field(
        1024.0, gt=0, le=1_000_000, description="most megabytes of weights that a voter keeps loaded beside each other"
    )
    instance: str = Field(
        default_factory=socket.gethostname,
        pattern=r"^[A-Za-z0-9._-]{1,64}$",
        description="which of several workers of one name this is; default the machine's (the container's) name",
    )
    metrics_port: int | None = Field(
        None,
        gt=0,
        le=65535,
        description="port where a worker answers /live, /ready, /metrics; with `nvp up` the first one's, others follow",
    )
    metrics_host: str = Field("127.0.0.1", min_length=1, description="address it listens on for that")
    traces_url: str | None = Field(
        None, description="where a worker sends its spans, OTLP over HTTP, such as http://127.0.0.1:4318/v1/traces"
    )
    lease_s: float = Field(
        15.0, gt=0, le=3600, description="how long a worker may be silent before its work is taken over"
    )
    drain_timeout_s: float = Field(
        10.0, ge=0, le=600, description="how long a worker that is told to end may go on with what it has begun"
    )
    log_level: Literal["debug", "info", "warning", "error"] = Field("info", description="what is logged")
    log_format: Literal["json", "text"] = Field("json", description="how it is logged")

    @classmethod
    def from_env(cls, environ: Mapping[str, str] | None = None, **overrides: object) -> Settings:
        """Settings from ``NVP_*`` variables; keyword arguments win.

        Raises:
            InvalidInput: a value is out of its range; the text names variable, value and limit.
        """
        source = os.environ if environ is None else environ
        values: dict[str, object] = {
            name: source[f"NVP_{name.upper()}"]
            for name in cls.model_fields
            if source.get(f"NVP_{name.upper()}")
        }
        try:
            return cls.model_validate(values | overrides)
        except ValidationError as error:
            first = error.errors()[0]
            name = str(first["loc"][0])
            raise InvalidInput(f"NVP_{name.upper()}={first['input']!r}: {first['msg'].lower()}; "
                               f"it is the {cls.model_fields[name].description}") from error

    @property
    def embedded(self) -> bool:
        """True when no server outside is named."""
        return self.redis_url is None and self.neo4j_uri is None

    @property
    def keys_dir(self) -> Path:
        """Where the deployment's keys and certificates lie."""
        return self.data_dir / "keys"


TETHERED_TO = "NVP_TETHERED_TO"  # set in every process of an embedded stack: its data folder
COMPUTE_NEEDS = (
    "PATH", "HOME", "LANG", "TMPDIR", "PYTHONPATH", "VIRTUAL_ENV", "LD_LIBRARY_PATH", "OMP_NUM_THREADS", TETHERED_TO,
)  # fmt: skip
COMPUTE_PREFIXES = ("LC_", "XLA_", "JAX_", "CUDA_", "NVIDIA_", "ROCM_")


def compute_environment(settings: Settings) -> dict[str, str]:
    """The environment of a compute child: what JAX needs, the shared compile cache, and no credential of any kind."""
    kept = {
        name: value for name, value in os.environ.items() if name in COMPUTE_NEEDS or name.startswith(COMPUTE_PREFIXES)
    }
    return kept | {name.upper(): str(value) for name, value in compile_cache(settings).items()}


def compile_cache(settings: Settings) -> dict[str, str | int]:
    """JAX's settings that keep every compiled program in the data folder."""
    return {
        "jax_compilation_cache_dir": str((settings.data_dir / "compile-cache").resolve()),
        "jax_persistent_cache_min_compile_time_secs": 0,
        "jax_persistent_cache_min_entry_size_bytes": -1,
    }


ONES_OWN = {"account", "account_password", "metrics_port"}  # a client's, or one worker's alone


def child_environment(settings: Settings) -> dict[str, str]:
    """The environment of a worker: what this process has, but ``NVP_*`` from ``settings`` and nothing else.

    So passwords travel to a child by its environment, which only its owner can read, never by its
    command line. What is a client's or one worker's alone is not handed on.
    """
    handed = settings.model_dump(mode="json", exclude_none=True, exclude=ONES_OWN)
    rest = {name: value for name, value in os.environ.items() if not name.startswith("NVP_")}
    return rest | {f"NVP_{name.upper()}": str(value) for name, value in handed.items()}
