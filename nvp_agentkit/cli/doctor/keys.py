"""The deployment's keys: whole, certified by their root, and nobody else's to read."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from nvp_agentkit.cli.doctor.finding import Finding, broken, ok


def findings(folder: Path) -> Iterator[Finding]:
    try:
        files = {path.name: path.stat().st_mode & 0o777 for path in sorted(folder.iterdir()) if path.is_file()}
    except (FileNotFoundError, NotADirectoryError):
        yield ok("keys", "none yet; `nvp up` or `nvp keys` makes them")
        return
    except OSError as error:
        yield broken("keys", f"{folder}: {error.strerror}", "run nvp as the owner of its keys")
        return
    open_ones = [str(folder / name) for name, mode in files.items() if name.endswith(".key") and mode & 0o077]
    if open_ones:
        which = " ".join(open_ones)
        yield broken("keys", f"others can read {len(open_ones)} private keys", f"chmod 600 {which}")
    if "root.pub" not in files:
        yield broken("keys", f"{folder} has no root.pub, so that nothing can be verified", "put it back from a copy")
        return
    yield _certified(folder, [name.removesuffix(".key") for name in files if name.endswith(".key")])


def _certified(folder: Path, private: list[str]) -> Finding:
    from nvp_agentkit.ensemble.keys import ROOT, KeyRing, load_signer
    from nvp_agentkit.errors import NvpError

    try:
        names = sorted(one.name for one in KeyRing.read(folder).certificates.values())
        for name in private:
            if name != ROOT:
                load_signer(folder, name)
    except (NvpError, OSError) as error:
        return broken("keys", str(error), f"put {folder} back from a copy; new keys void the certificates given so far")
    return ok("keys", f"root, {', '.join(names)}")
