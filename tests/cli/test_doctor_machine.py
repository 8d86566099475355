"""`nvp doctor` on the machine, what is installed, the data folder and the keys: each thing is broken for real.

A C library or a CPU cannot be: there the observed facts are handed in.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib import metadata
from pathlib import Path

import pytest

from nvp_agentkit import __version__
from nvp_agentkit.cli import deployment, extras
from nvp_agentkit.cli.doctor import folder, keys, machine, packages
from nvp_agentkit.cli.doctor.finding import Finding
from nvp_agentkit.embedded import lock
from nvp_agentkit.embedded.stackfile import StackFile
from nvp_agentkit.ensemble import init_keys
from nvp_agentkit.errors import MissingExtra
from nvp_agentkit.settings import TETHERED_TO

Mount = Callable[[str], Path]


def only(found: Iterator[Finding], state: str) -> list[Finding]:
    return [one for one in found if one.state == state]


@pytest.fixture
def mount(tmp_path: Path) -> Iterator[Mount]:
    """A small file system of one's own, in memory."""
    mounted = []

    def make(options: str) -> Path:
        at = tmp_path / f"disk-{len(mounted)}"
        at.mkdir()
        done = subprocess.run(
            ["mount", "-t", "tmpfs", "-o", options, "none", str(at)], capture_output=True, text=True, check=False
        )
        if done.returncode:
            pytest.skip(f"no file system can be mounted here: {done.stderr.strip()}")
        mounted.append(at)
        return at

    yield make
    for at in mounted:
        subprocess.run(["umount", str(at)], check=True)


def test_this_machine_is_good_enough() -> None:
    assert [one.state for one in machine.findings()] == ["ok", "ok", "ok"]


def test_an_extra_that_is_newer_than_the_installation_is_missing() -> None:
    with pytest.raises(MissingExtra, match=r"pip install 'nvp-agentkit\[levitation\]'"):
        extras.need("observability", "levitation")


@pytest.mark.parametrize(
    ("finding", "remedy"),
    [
        (machine.python((3, 10, 9)), "make PYTHON=python3.12"),
        (machine.system("Linux", "glibc", "2.31"), "Debian 12"),
        (machine.system("Linux", "", ""), "NVP_REDIS_URL"),
        (machine.cpu("x86_64", frozenset({"sse4_2"})), "another machine"),
    ],
    ids=lambda value: value.what if isinstance(value, Finding) else "",
)
def test_an_old_or_foreign_machine_is_broken(finding: Finding, remedy: str) -> None:
    assert finding.state == "broken"
    assert remedy in finding.remedy


def test_what_is_new_enough_by_its_number_is_not_compared_as_text() -> None:
    assert machine.system("Linux", "glibc", "2.34").state == "ok"
    assert machine.system("Linux", "glibc", "2.4").state == "broken"
    assert machine.python((3, 100, 0)).state == "ok"


def test_a_system_nobody_tried_is_a_warning() -> None:
    assert machine.system("Darwin", "", "").state == machine.cpu("arm64", frozenset()).state == "warning"


def test_extras_are_those_of_the_package_itself() -> None:
    found = extras.extras(metadata.requires("nvp-agentkit") or [])
    assert {"model", "graph", "embedded", "observability", "plot"} <= set(found)
    assert "jax" in found["model"]
    assert "arcadedb-embedded" in found["embedded"]
    assert not extras.ALIASES & set(found)


def test_a_missing_extra_names_the_command_that_installs_it() -> None:
    assert extras.installed("redis")
    assert not extras.installed("nvp-no-such-thing")
    needed = packages.absent("graph", ["neo4j"], needed=True)
    assert needed == Finding("extra graph", "broken", "neo4j not installed", "pip install 'nvp-agentkit[graph]'")
    assert packages.absent("plot", ["matplotlib"], needed=False).state == "warning"


@pytest.mark.parametrize(
    ("program", "said"),
    [
        ("raise ImportError('libGL.so.1')", "libGL.so.1"),
        ("import os, signal; os.kill(os.getpid(), signal.SIGILL)", "SIGILL"),
    ],
)
def test_a_model_stack_that_does_not_load_is_broken(program: str, said: str) -> None:
    found = packages.imports([sys.executable, "-c", program])
    assert found.state == "broken"
    assert said in found.what
    assert "nvp-agentkit[model]" in found.remedy


@pytest.mark.parametrize(
    ("mode", "content", "said"),
    [
        (0o644, "#!/bin/sh\necho 1.0\n", "Permission denied"),
        (0o755, "\x7fELF of another machine", "Exec format error"),
        (0o755, "#!/bin/sh\necho GLIBC_2.34 not found >&2\nexit 1\n", "GLIBC_2.34 not found"),
        (None, "", "No such file"),
    ],
)
def test_a_store_that_cannot_be_run_is_broken(tmp_path: Path, mode: int | None, content: str, said: str) -> None:
    binary = tmp_path / "server"
    if mode is not None:
        binary.write_text(content)
        binary.chmod(mode)
    found = packages.runs("valkey", binary, "--version")
    assert found.state == "broken"
    assert said in found.what
    assert "nvp-agentkit[embedded]" in found.remedy


def test_the_stores_of_this_machine_run() -> None:
    assert packages.valkey().state == packages.arcadedb().state == "ok"


def test_a_redis_server_from_path_may_be_too_old() -> None:
    old = packages.new_enough(Finding("valkey", "ok", "Redis server v=6.0.16"))
    assert old.state == "broken"
    assert packages.new_enough(Finding("valkey", "ok", "Redis server v=6.2.1")).state == "ok"


def test_a_full_disk_is_broken(mount: Mount) -> None:
    at = mount("size=64k")
    (at / "full").write_bytes(bytes(40_000))
    found = folder.writable(at / "nvp")
    assert found.state == "broken"
    assert "No space left" in found.what
    assert "free some space" in found.remedy
    assert folder.disk(999_999_999).state == "warning"


def test_a_folder_that_cannot_be_written_is_broken(mount: Mount, tmp_path: Path) -> None:
    read_only = folder.writable(mount("size=64k,ro"))
    assert read_only.state == "broken"
    assert "mount it for writing" in read_only.remedy
    (tmp_path / "file").touch()
    in_the_way = folder.writable(tmp_path / "file" / "nvp")
    assert in_the_way.state == "broken"
    assert "move the file away" in in_the_way.remedy


def test_a_folder_of_somebody_elses_is_broken(tmp_path: Path) -> None:
    with forbidden(tmp_path):
        writable, (stack,) = folder.writable(tmp_path / "nvp"), folder.stack(tmp_path / "nvp")
        (certified,) = keys.findings(tmp_path / "keys")
    assert writable.state == stack.state == certified.state == "broken"
    assert "chown or chmod" in writable.remedy
    assert "owner" in stack.remedy
    assert "owner" in certified.remedy


@contextmanager
def forbidden(folder: Path) -> Iterator[None]:
    """``folder`` may not be looked into, by root neither: it is somebody else for a while."""
    folder.chmod(0)
    root = os.geteuid() == 0
    if root:
        os.seteuid(65_534)
    try:
        yield
    finally:
        if root:
            os.seteuid(0)
        folder.chmod(0o700)


def test_a_file_system_without_locks_is_broken(tmp_path: Path) -> None:
    fd = os.open(tmp_path, os.O_PATH)  # which the kernel locks no more than a file there
    try:
        found = folder.lockable(tmp_path, fd)
    finally:
        os.close(fd)
    assert found is not None
    assert found.state == "broken"
    assert "local disk" in found.remedy


def test_examining_leaves_nothing_behind(tmp_path: Path) -> None:
    assert only(folder.findings(tmp_path / "nvp"), "broken") == []
    assert list(tmp_path.iterdir()) == []


def test_a_stack_that_runs_is_named(tmp_path: Path) -> None:
    held = lock.acquire(tmp_path)
    try:
        found = list(folder.stack(tmp_path))
    finally:
        held.release()
    assert found[0] == Finding("stack", "ok", f"process {os.getpid()} runs it")
    assert found[1].state == "warning"  # it has no stack.json yet


@pytest.mark.skipif(sys.platform != "linux", reason="processes are found by /proc")
def test_processes_of_a_dead_stack_are_broken(tmp_path: Path) -> None:
    with subprocess.Popen(["sleep", "600"], env={TETHERED_TO: str(tmp_path)}) as stale:
        try:
            (found,) = folder.stack(tmp_path)
        finally:
            stale.kill()
    assert found.state == "broken"
    assert str(stale.pid) in found.what
    assert "nvp up" in found.remedy


KEEPER = 4242


@pytest.fixture
def stack_file(tmp_path: Path) -> Path:
    written = StackFile(
        version=__version__, pid=KEEPER, started_ms=1, redis_url="redis://", neo4j_uri="bolt://", neo4j_user="u",
        neo4j_password="p", neo4j_database="d", artifacts_url="a",
    )  # fmt: skip
    path = tmp_path / "stack.json"
    path.touch(mode=0o600)
    path.write_text(written.model_dump_json())
    return path


def test_the_file_of_a_running_stack_is_well(stack_file: Path) -> None:
    assert [one.state for one in folder.stack_file(stack_file, KEEPER)] == ["ok"]


@pytest.mark.parametrize(
    ("harm", "holder", "state", "remedy"),
    [
        (lambda path: None, None, "warning", "`nvp up` writes it anew"),
        (lambda path: None, KEEPER + 1, "warning", "`nvp logs stack`"),
        (lambda path: path.chmod(0o644), KEEPER, "broken", "chmod 600"),
        (lambda path: path.write_text(path.read_text().replace(__version__, "0.0.1")), KEEPER, "broken", "`nvp down`"),
        (lambda path: path.write_text("{}"), KEEPER, "broken", "`nvp down`"),
        (lambda path: path.write_text(path.read_text()[:40]), None, "broken", "`nvp up`"),
    ],
)
def test_a_stack_file_that_is_stale_open_foreign_or_damaged(
    harm: Callable[[Path], object], holder: int | None, state: str, remedy: str, stack_file: Path
) -> None:
    harm(stack_file)
    found = next(folder.stack_file(stack_file, holder))
    assert found.state == state
    assert remedy in found.remedy


@pytest.fixture
def keys_dir(tmp_path: Path) -> Path:
    init_keys(tmp_path / "keys", deployment.SIGNERS)
    return tmp_path / "keys"


def test_keys_that_are_well_or_not_yet_there(keys_dir: Path, tmp_path: Path) -> None:
    assert [one.state for one in keys.findings(keys_dir)] == ["ok"]
    assert "nvp keys" in next(keys.findings(tmp_path / "none")).what


def test_private_keys_that_others_can_read_are_broken(keys_dir: Path) -> None:
    (keys_dir / "tally.key").chmod(0o640)
    (found,) = only(keys.findings(keys_dir), "broken")
    assert found.remedy == f"chmod 600 {keys_dir / 'tally.key'}"


def test_a_private_key_that_is_none_or_anothers_is_broken(keys_dir: Path) -> None:
    (keys_dir / "voter-0.key").write_bytes((keys_dir / "voter-1.key").read_bytes())
    (found,) = only(keys.findings(keys_dir), "broken")
    assert "another key than voter-0.key" in found.what
    (keys_dir / "voter-0.key").write_bytes(b"")
    (found,) = only(keys.findings(keys_dir), "broken")
    assert "voter-0.key is no private key" in found.what


def test_keys_without_their_root_or_of_another_one_are_broken(keys_dir: Path, tmp_path: Path) -> None:
    init_keys(tmp_path / "other", ["voter-0"])
    (tmp_path / "other" / "voter-0.cert.json").replace(keys_dir / "voter-0.cert.json")
    (found,) = keys.findings(keys_dir)
    assert found.state == "broken"
    assert "root did not certify" in found.what
    (keys_dir / "root.pub").unlink()
    (found,) = keys.findings(keys_dir)
    assert "no root.pub" in found.what
    assert found.remedy
