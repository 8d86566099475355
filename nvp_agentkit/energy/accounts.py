"""What the ledger answers with: balances, grants, statements."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal

State = Literal["open", "settled", "released", "reaped"]


@dataclass(frozen=True)
class Balance:
    """One account. ``spent_mj + reserved_mj <= limit_mj``, always.

    ``overdraft_mj`` is what work used beyond its reservations: on record, paid by nobody's limit.
    """

    account: str
    limit_mj: int
    spent_mj: int
    reserved_mj: int
    overdraft_mj: int = 0

    @property
    def free_mj(self) -> int:
        """What can still be reserved."""
        return self.limit_mj - self.spent_mj - self.reserved_mj


@dataclass(frozen=True)
class Part:
    """One payer's share of a reservation (a voter of an ensemble request): cumulative figures."""

    used_mj: int
    paid_mj: int
    seq: int
    final: bool


@dataclass(frozen=True)
class Grant:
    """A reservation as it stands.

    A redelivered request finds its grant again: `parts_settled` says what was already spent, so that a second
    attempt goes on from there, and `state` other than ``open`` that the matter is closed. `fences` counts how often
    each part was begun: only the last to begin it settles for it.
    """

    account: str
    reservation: str
    granted_mj: int
    held_mj: int
    parts: int
    expires_ms: int
    state: State
    parts_settled: dict[str, Part] = field(default_factory=dict)
    fences: dict[str, int] = field(default_factory=dict)

    @property
    def share_mj(self) -> int:
        """The most one part may spend."""
        return self.granted_mj // self.parts

    @property
    def paid_mj(self) -> int:
        """What this reservation has cost its account so far."""
        return sum(part.paid_mj for part in self.parts_settled.values())


@dataclass(frozen=True)
class Entry:
    """A line of an account's journal.

    ``what``: created, topped_up, reserved, reopened, refused, settled, overdraft, released, reaped.
    """

    at_ms: int
    what: str
    mj: int
    reservation: str = ""
    part: str = ""


@dataclass(frozen=True)
class Statement:
    """An account, what it has open, and its newest journal lines (newest first)."""

    balance: Balance
    open: tuple[Grant, ...]
    entries: tuple[Entry, ...]


def joules(mj: int) -> str:
    """``5000`` as ``5.0 J``, exact to the millijoule, so that "2.1 J left" never hides 2.099 J."""
    whole, rest = divmod(mj, 1000)
    return f"{whole:,}.{f'{rest:03d}'.rstrip('0') or '0'} J"


def read_grant(account: str, reservation: str, flat: Sequence[bytes | str]) -> Grant:
    """A grant from the fields and values of its hash."""
    texts = [item.decode() if isinstance(item, bytes) else item for item in flat]
    fields = dict(zip(texts[::2], texts[1::2], strict=True))
    names = [name.removeprefix("seq:") for name in fields if name.startswith("seq:")]
    state = fields["state"]
    if state not in ("open", "settled", "released", "reaped"):
        raise ValueError(f"reservation {reservation} is {state!r}, which is no grant")
    return Grant(
        account=account,
        reservation=reservation,
        granted_mj=int(fields["granted"]),
        held_mj=int(fields["held"]),
        parts=int(fields["parts"]),
        expires_ms=int(fields["expires_ms"]),
        state=state,  # type: ignore[arg-type]  # mypy does not narrow a str by `in`
        parts_settled={
            name: Part(
                used_mj=int(fields[f"used:{name}"]),
                paid_mj=int(fields[f"paid:{name}"]),
                seq=int(fields[f"seq:{name}"]),
                final=f"final:{name}" in fields,
            )
            for name in names
        },
        fences={
            name.removeprefix("fence:"): int(value) for name, value in fields.items() if name.startswith("fence:")
        },
    )


def read_entry(entry_id: bytes | str, fields: dict[bytes, bytes]) -> Entry:
    """A journal line from a stream entry; its id carries the server's clock."""
    text = entry_id.decode() if isinstance(entry_id, bytes) else entry_id
    return Entry(
        at_ms=int(text.partition("-")[0]),
        what=fields[b"what"].decode(),
        mj=int(fields[b"mj"]),
        reservation=fields[b"reservation"].decode(),
        part=fields[b"part"].decode(),
    )
