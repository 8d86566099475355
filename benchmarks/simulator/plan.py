"""What happens in a history: drawn from its seed, small enough to read, and a little smaller still to shrink."""

from __future__ import annotations

import random
from dataclasses import dataclass, replace
from typing import Literal

from nvp_agentkit.workers.process import HANDS

Kind = Literal["predict", "job", "quorum"]
Fate = Literal["done", "refused", "defect", "flaky", "deadly", "garbled", "strange"]
FATES: tuple[Fate, ...] = ("done",) * 12 + ("refused", "defect", "flaky", "flaky", "deadly", "garbled", "strange")
HERE: tuple[str, ...] = ("kill", "kill", "kill", "freeze", "freeze", "cut", "cut", "stop")
THERE: tuple[str, ...] = ("restart", "restart", "forget_scripts", "full", "flush", "roll_back")
MILD = frozenset({"restart", "forget_scripts", "cut"})
EVENTS_FEW = 24  # calls of a process within which most of what it does to a message falls


@dataclass(frozen=True)
class Message:
    """A request: when it is published, how often, what it asks for, and what working on it is like."""

    kind: Kind
    at_s: float
    copies: int = 1
    deadline_s: float | None = None
    budget_mj: int = 5000
    used_mj: int = 1000
    work_s: float = 0.05
    fate: Fate = "done"
    times: int = 0  # attempts that end badly, of the flaky and the deadly
    differing: int = 0  # voters of a quorum that say something else
    urgent: bool = False  # a job that goes before others
    cancel_s: float | None = None  # after it is asked for: then a job is wanted no more
    question: int = 0  # forecasts of one number ask the same; of 0 each asks something of its own


@dataclass(frozen=True)
class Fault:
    """What happens to process ``who`` at its call number ``call``; to the store (-1) at ``at_s``.

    ``before``: the call is not yet sent, else it has been applied. ``applied``: commands of a pipeline that were,
    before the connection was lost.
    """

    kind: str
    who: int
    call: int = 0
    at_s: float = 0.0
    before: bool = True
    applied: int = 0
    for_s: float = 0.0


@dataclass(frozen=True)
class Plan:
    """A whole history."""

    seed: int
    workers: int
    batch: int
    lease_s: float
    slowest_s: float
    limit_mj: int
    messages: tuple[Message, ...]
    faults: tuple[Fault, ...]
    fresh: bool = True  # the store has to be told of every function
    hands: int = 1  # batches of forecasts or votes at a time

    @classmethod
    def of(cls, seed: int) -> Plan:
        """The history of that seed. A few of them are calm: then everything has to be as if by rote."""
        chance = random.Random(seed)
        lease_s = chance.choice((0.4, 1.0, 2.0))
        kind: Kind = chance.choice(("predict",) * 7 + ("job",) * 2 + ("quorum",))
        messages = tuple(_message(chance, kind) for _ in range(chance.choice((1, 1, 1, 1, 2, 2, 2, 4))))
        workers = chance.choice((1, 2, 2, 2, 3)) if kind != "quorum" else chance.choice((4, 4, 5))
        calm = chance.random() < 0.2
        count = 0 if calm else chance.choice((1, 1, 2, 2, 3, 4))
        faults = tuple(_fault(chance, workers, lease_s) for _ in range(count))
        if kind == "job" and chance.random() < 0.1:  # a rush, so that some have to wait for others
            messages *= 3
        messages = tuple(_more(chance, message) for message in messages)
        fresh = chance.random() < 0.2
        return cls(
            seed,
            workers,
            batch=1 if kind == "job" else chance.choice((1, 2, 4)),
            lease_s=lease_s,
            slowest_s=0.002 if calm else chance.choice((0.002, 0.05, 1.5 * lease_s)),
            limit_mj=chance.choice((4000, 1_000_000, 1_000_000, 1_000_000)),
            messages=messages,
            faults=faults,
            fresh=fresh,
            hands=chance.choice((1, HANDS)),
        )

    @property
    def kind(self) -> Kind:
        return self.messages[0].kind

    @property
    def mild(self) -> bool:
        """Nobody loses a lease: connections break, no longer than that, and nobody dies or is slow."""
        bearable = all(fault.kind in MILD and fault.for_s <= self.lease_s / 4 for fault in self.faults)
        return bearable and self.slowest_s < self.lease_s / 4

    @property
    def alone(self) -> bool:
        """One worker, which lives: however long the store is away, nobody else can have its messages."""
        deadly = any(message.fate == "deadly" for message in self.messages)
        return self.workers == 1 and not deadly and all(fault.kind in MILD for fault in self.faults)


def _message(chance: random.Random, kind: Kind) -> Message:
    used_mj = chance.choice((100, 1000, 1000, 4000))
    fate = chance.choice(FATES)
    return Message(
        kind,
        at_s=chance.choice((0.0, 0.0, 0.01, 0.3)),
        copies=chance.choice((1, 1, 1, 2, 3)),
        # Of a quorum, no more than a history lasts: the tally waits for its deadline where too few vote.
        deadline_s=chance.choice((0.3, 5.0, 60.0, 60.0, 60.0, None) if kind != "quorum" else (0.3, 2.0, 5.0, 5.0)),
        budget_mj=chance.choice((used_mj, 2 * used_mj + 3, 9000, used_mj - 1)) * (1 if kind != "quorum" else 3),
        used_mj=used_mj,
        work_s=chance.choice((0.0, 0.05, 0.05, 0.5)),
        fate=fate,
        times=chance.choice((1, 2, 9)) if fate in ("flaky", "deadly") else 0,
        differing=chance.choice((0, 0, 1, 2)) if kind == "quorum" else 0,
    )


def _more(chance: random.Random, message: Message) -> Message:
    if message.kind == "predict":
        return replace(message, question=chance.choice((0, 0, 0, 1, 1, 2)))
    if message.kind == "job":
        cancel_s = chance.choice((None, None, None, 0.0, 0.2, 0.6))
        work_s = message.work_s if cancel_s is None else chance.choice((message.work_s, 2.0))
        return replace(message, urgent=chance.random() < 0.4, cancel_s=cancel_s, work_s=work_s)
    return message


def _fault(chance: random.Random, workers: int, lease_s: float) -> Fault:
    if chance.random() < 0.25:
        kind = chance.choice(THERE)
        return Fault(kind, -1, at_s=chance.random() * chance.choice((0.1, 1.0)), for_s=chance.choice((0.05, 0.5, 3.0)))
    return Fault(
        chance.choice(HERE),
        chance.randrange(workers + 1),  # the last is who asks
        call=1 + int(EVENTS_FEW * chance.random() ** 1.5),
        before=chance.random() < 0.5,
        applied=chance.randrange(4),
        for_s=lease_s * chance.choice((0.5, 1.5, 3.0)),
    )
