"""Which code is running, and where: the facts a result's last bits may hang on."""

from __future__ import annotations

import os
import platform
import subprocess
from functools import cache
from pathlib import Path

import nvp_agentkit
from nvp_agentkit.lineage import nodes
from nvp_agentkit.messages import NodeFact
from nvp_agentkit.messages.values import digest_of

PACKAGE = Path(nvp_agentkit.__file__).parent


@cache
def running_code() -> NodeFact:
    """The installed version, and in a checkout the commit, whether it is dirty and a digest of the changes."""
    version = nvp_agentkit.__version__
    # Only if git tracks this very file: a wheel inside somebody's repository is not that repository's commit.
    if _git("ls-files", "--error-unmatch", "__init__.py") is None:
        return nodes.code_version(version)
    commit = (_git("rev-parse", "HEAD") or b"").decode().strip()
    changes = (_git("diff", "HEAD") or b"") + (_git("ls-files", "--others", "--exclude-standard") or b"")
    digest = digest_of(changes) if changes else None
    return nodes.code_version(version, commit=commit or None, dirty=bool(changes), changes=digest)


def running_environment(*, jax: str | None = None, device: str | None = None, image: str | None = None) -> NodeFact:
    """This process's interpreter and machine; the compute child says which jax and device it has."""
    return nodes.environment(
        python=platform.python_version(),
        platform=f"{platform.system()}-{platform.machine()}".lower(),
        cpu=_cpu_model(),
        threads=_threads(),
        image=image,
        jax=jax,
        device=device,
    )


def _git(*arguments: str) -> bytes | None:
    try:
        done = subprocess.run(["git", *arguments], cwd=PACKAGE, capture_output=True, timeout=10, check=True)
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout


def _cpu_model() -> str | None:
    try:
        text = Path("/proc/cpuinfo").read_text(encoding="utf-8")
    except OSError:
        return platform.processor() or None
    return next((line.split(":", 1)[1].strip() for line in text.splitlines() if line.startswith("model name")), None)


def _threads() -> int | None:
    # A container's share, where the system tells it.
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
