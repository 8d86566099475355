"""Which container engine answers here, and how to use it: docker, or podman without systemd or a registry.

The podman way (Debian, root): the images that the compose file names are made on this machine, the product's image is
built with buildah, and the stack runs in namespaces of its own (`unshare`), so that nothing outside sees it.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import threading
from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
IMAGES = Path(__file__).with_name("images")
IMAGE = "docker.io/library/nvp-agentkit:local"
COMPOSE_SOURCE = "github.com/docker/compose/v2/cmd@v2.32.4"  # newer tags do not build by `go install`
PACKAGES = {
    "podman": "podman",
    "buildah": "buildah",
    "crun": "crun",
    "/usr/lib/podman/netavark": "netavark",
    "/usr/lib/podman/aardvark-dns": "aardvark-dns",
    "iptables": "iptables",
    "debootstrap": "debootstrap",
    "mvn": "maven",
}
# No cgroups to make, no sysctls to set, no systemd to talk to: what a plain machine allows root.
CONTAINERS = """\
[containers]
cgroups = "disabled"
default_sysctls = []
default_ulimits = ["nofile=20000:20000", "nproc=32768:32768"]
[engine]
events_logger = "file"
runtime = "crun"
"""
STORAGE = '[storage]\ndriver = "overlay"\ngraphroot = "{0}/storage"\nrunroot = "{0}/run"\n'
CHECK_EVERY_S = 6.0  # podman takes half a CPU-second a check
APART = ["unshare", "-m", "-n", "-p", "-f", "--mount-proc", "--kill-child", "--propagation", "private"]


class NoEngine(Exception):
    """Nothing here can run containers; the text says what is missing."""


@dataclass
class Engine:
    """How to call the engine. ``cli`` inspects containers, ``compose`` is compose v2."""

    name: str
    cli: list[str]
    compose: list[str]
    env: dict[str, str] = field(default_factory=dict)

    def run(self, *command: str, timeout_s: float = 300, **options: object) -> subprocess.CompletedProcess[str]:
        """Run a program with the engine's environment; its output is captured, whatever it says."""
        environment = os.environ | self.env
        return subprocess.run(  # type: ignore[call-overload]
            command, env=environment, capture_output=True, text=True, timeout=timeout_s, check=False, **options
        )

    def build(self) -> str:
        """Build the product's image from this checkout; returns its size in words."""
        if self.name == "docker":
            self.must(*self.cli, "build", "--tag", IMAGE, str(ROOT))
        else:
            # Not through podman's service, which would make cgroups.
            how = ("--layers", "--isolation", "chroot", "--network", "host")
            self.must("buildah", "bud", *how, "--tag", IMAGE, str(ROOT))
        size = self.must(*self.cli, "image", "inspect", IMAGE, "--format", "{{.Size}}")
        return f"{int(size) / 1e6:.0f} MB"

    def must(self, *command: str) -> str:
        done = self.run(*command, timeout_s=1800)
        if done.returncode:
            said = done.stdout[-2000:] + done.stderr[-4000:]
            raise RuntimeError(f"{' '.join(command)} ended with {done.returncode}:\n{said}")
        return done.stdout.strip()


def find(work: Path, *, install: bool) -> Engine:
    """The engine that answers, docker before podman.

    Raises:
        NoEngine: there is none; why, and what would help.
    """
    if _answers("docker", "info"):
        if _answers("docker", "compose", "version"):
            return Engine("docker", ["docker"], ["docker", "compose"])
        if shutil.which("docker-compose"):
            return Engine("docker", ["docker"], ["docker-compose"])
        raise NoEngine("docker answers, but there is no compose v2 beside it")
    return podman(work, install=install)


def podman(work: Path, *, install: bool) -> Engine:
    """Podman as `APART` will see it: its socket is there once `serve` runs inside."""
    if os.geteuid() != 0 or not Path("/etc/debian_version").exists():
        raise NoEngine("no docker daemon answers, and the podman way needs root on Debian")
    if install:
        _install(work)
    missing = [package for program, package in PACKAGES.items() if not shutil.which(program)]
    compose = _compose(work)
    if missing or compose is None:
        missing += [] if compose else ["compose v2 (go)"]
        raise NoEngine(f"no docker daemon answers; podman lacks {', '.join(missing)}; INSTALL=1 installs that")
    (work / "containers.conf").write_text(CONTAINERS)
    (work / "storage.conf").write_text(STORAGE.format(work))
    env = {
        "CONTAINERS_CONF": str(work / "containers.conf"),
        "CONTAINERS_STORAGE_CONF": str(work / "storage.conf"),
        "DOCKER_HOST": f"unix://{work}/podman.sock",
    }
    return Engine("podman", ["podman"], compose, env)


def stand_in_images(engine: Engine, work: Path) -> str:
    """Make what no registry gives here: see images/build.sh."""
    engine.must(str(IMAGES / "build.sh"), str(work))
    return "python, redis and neo4j in images made on this machine"


def serve(engine: Engine, work: Path) -> None:
    """Inside `APART`: the service that compose talks to, and what systemd would do for health checks."""
    engine.run("umount", "/sys/fs/cgroup/unified")
    engine.run("ip", "link", "set", "lo", "up")
    command = ["podman", "system", "service", "--time=0", engine.env["DOCKER_HOST"]]
    with (work / "podman.log").open("wb") as log:
        subprocess.Popen(command, env=os.environ | engine.env, stdout=log, stderr=log)
    threading.Thread(target=_keep_checking, args=(engine,), daemon=True).start()


def _keep_checking(engine: Engine) -> None:
    """Run every container's health check, in a thread of its own so that one that hangs holds up no other."""
    busy: dict[str, threading.Thread] = {}
    pause = threading.Event()
    while not pause.wait(CHECK_EVERY_S):
        for container in engine.run("podman", "ps", "--quiet").stdout.split():
            if container not in busy or not busy[container].is_alive():
                command = ("podman", "healthcheck", "run", container)
                busy[container] = threading.Thread(target=engine.run, args=command, daemon=True)
                busy[container].start()


def _answers(*command: str) -> bool:
    if shutil.which(command[0]) is None:
        return False
    return subprocess.run(command, capture_output=True, check=False).returncode == 0


def _compose(work: Path) -> list[str] | None:
    if _answers("docker", "compose", "version"):
        return ["docker", "compose"]
    found = shutil.which("docker-compose") or shutil.which("docker-compose", path=str(work / "bin"))
    return [found] if found else None


def _install(work: Path) -> None:
    subprocess.run(["apt-get", "update", "-q"], check=True)
    subprocess.run(["apt-get", "install", "-q", "-y", "--no-install-recommends", *PACKAGES.values()], check=True)
    if _compose(work) is None and shutil.which("go"):
        subprocess.run(["go", "install", COMPOSE_SOURCE], env={**os.environ, "GOBIN": str(work / "bin")}, check=True)
        (work / "bin" / "cmd").rename(work / "bin" / "docker-compose")
