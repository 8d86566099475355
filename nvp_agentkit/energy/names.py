"""The ledger's keys. All carry the hash tag ``{ledger}``, so that one function may touch several.

Without a TTL are only accounts, and what is open: an open reservation must not be forgotten, or its
joules would stay reserved for ever. Once closed it is a tombstone with a TTL, which answers late duplicates.
"""

from __future__ import annotations

OPEN = "nvp:{ledger}:open"  # sorted set ACCOUNT/RESERVATION -> expires_ms; gone when nothing is open


def account(name: str) -> str:
    """Hash limit, spent, reserved, overdraft (mJ). Never expires."""
    return f"nvp:{{ledger}}:account:{name}"


def reservation(name: str, reservation_id: str) -> str:
    """Hash of one reservation and its parts; a TTL from its closing on."""
    return f"nvp:{{ledger}}:reservation:{name}:{reservation_id}"


def top_up(name: str, top_up_id: str) -> str:
    """Mark that this top-up was made. TTL."""
    return f"nvp:{{ledger}}:top-up:{name}:{top_up_id}"


def journal(name: str) -> str:
    """Stream of what happened to the account: capped, and a TTL since its last entry."""
    return f"nvp:{{ledger}}:journal:{name}"


def member(name: str, reservation_id: str) -> str:
    """The reservation's name in `OPEN`; an account's name has no slash."""
    return f"{name}/{reservation_id}"


def split_member(raw: bytes) -> tuple[str, str]:
    """Account and reservation of a name in `OPEN`."""
    name, _, reservation_id = raw.decode().partition("/")
    return name, reservation_id
