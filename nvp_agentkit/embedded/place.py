"""Free ports and generated passwords: where a store listens and who may ask it."""

from __future__ import annotations

import importlib.util
import os
import secrets
import socket
from pathlib import Path

from nvp_agentkit.errors import PortTaken

LOOPBACK = "127.0.0.1"  # nothing embedded is ever reachable from another machine


def free_port() -> int:
    """A port nobody listened on a moment ago; another process may still be faster, so callers try again."""
    with socket.socket() as probe:
        probe.bind((LOOPBACK, 0))
        return int(probe.getsockname()[1])


def is_free(port: int) -> bool:
    """True if a server could listen on ``port`` now."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # as servers do; TIME_WAIT is no obstacle
        try:
            probe.bind((LOOPBACK, port))
        except OSError:
            return False
        return True


def claim_port(port: int | None, *, store: str) -> int:
    """The asked port if it is free, a free one if none was asked.

    Raises:
        PortTaken: somebody listens on the asked port.
    """
    if port is None:
        return free_port()
    if not is_free(port):
        raise PortTaken(f"{store}: port {port} on {LOOPBACK} is taken; end the program that listens there "
                        "or ask for another port")
    return port


def package_folder(name: str) -> Path | None:
    """The folder of an installed package, found without importing it; None if it is not installed."""
    found = importlib.util.find_spec(name)
    return Path(found.submodule_search_locations[0]) if found and found.submodule_search_locations else None


def password_in(path: Path) -> str:
    """The password kept in ``path`` (mode 0600), generated on first use."""
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        write_private(path, secrets.token_urlsafe(24))
    return path.read_text()


def write_private(path: Path, text: str) -> None:
    """Replace ``path`` by ``text`` in one step, readable by its owner alone from the first moment."""
    write_whole(path, text.encode(), mode=0o600)


def write_whole(path: Path, data: bytes, *, mode: int) -> None:
    """Replace ``path`` by ``data`` in one step: whoever is killed meanwhile leaves the old file or the new one."""
    new = path.with_name(path.name + ".new")
    new.unlink(missing_ok=True)
    with os.fdopen(os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode), "wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    new.replace(path)
