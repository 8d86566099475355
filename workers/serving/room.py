"""What stays in a compute child: models as far as their weights fit, and the shapes they are compiled for.

What is in service stays. Of the rest whoever has most gives way first, by what he has not used for longest: an account
that asks for much makes room among its own, and costs no other the little it has.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Generic, TypeVar

from nvp_agentkit.errors import NoRoom

Shape = tuple[int, ...]  # (K, H, W)
Key = tuple[str, Shape]  # a model by its id, and what it is compiled for

PASSING_KEPT = 64  # shapes that nobody has to keep ready

What = TypeVar("What")


@dataclass(frozen=True)
class Price:
    """What one forecast takes. ``to_load`` where the model or its shape has to be made ready first."""

    cpu_s: float
    wall_s: float
    to_load: bool = False


@dataclass(frozen=True)
class _Compiled:
    account: str
    batches: tuple[int, ...]
    price: Price


@dataclass(frozen=True)
class _Held(Generic[What]):
    """A model or a shape, whose it is, and how much it counts: bytes of weights, or one."""

    what: What
    account: str
    size: int


class Room:
    """One child's: who has what in it, in the order of its last use, and who gives way."""

    def __init__(self, limit_mb: float) -> None:
        self._limit_mb = limit_mb
        self._models: dict[str, _Held[str]] = {}
        self._shapes: dict[Key, _Compiled] = {}
        self._standing: dict[Key, str] = {}  # in service, and whose

    def clear(self) -> None:
        """The child is a new one."""
        self._models.clear()
        self._shapes.clear()

    @property
    def models(self) -> list[str]:
        return list(self._models)

    @property
    def shapes(self) -> list[Key]:
        return list(self._shapes)

    def used(self, key: Key, batches: Collection[int] = ()) -> Price | None:
        """What a forecast takes, where all is ready for it and for batches of these sizes. It counts as used."""
        known = self._shapes.get(key)
        if known is None or not set(batches) <= set(known.batches):
            return None
        self._shapes[key], self._models[key[0]] = self._shapes.pop(key), self._models.pop(key[0])
        return known.price

    def stands(self, standing: Mapping[Key, str]) -> None:
        """What is in service now, and whose it is; nothing else is."""
        self._standing = dict(standing)

    def admit(self, key: Key, size: int, account: str, *, standing: bool) -> bool:
        """Make room for a model of ``size`` bytes of weights, and for one more shape of it; whether anything went.

        Raises:
            NoRoom: it does not fit beside what is in service.
        """
        if standing:
            self._standing.setdefault(key, account)
        model_id, gone = key[0], list[str]()
        if model_id not in self._models:
            gone = self._models_to_go(_Held(model_id, account, size), standing=standing)
            for name in gone:
                del self._models[name]
            self._models[model_id] = _Held(model_id, account, size)
        shapes = [one for one in self._shapes if one[0] not in self._models]
        if key not in self._shapes and key not in self._standing:
            shapes += self._shapes_to_go(account)
        for shape in shapes:
            self._shapes.pop(shape, None)
        return bool(gone or shapes)

    def compiled(self, key: Key, account: str, batches: tuple[int, ...], price: Price) -> None:
        """It is ready now, unless the child is another one since it was admitted."""
        if key[0] not in self._models:
            return
        self._shapes.pop(key, None)
        self._shapes[key] = _Compiled(account, batches, price)

    def failed(self, model_id: str) -> None:
        """It could not be loaded."""
        if all(name != model_id for name, _ in self._shapes):
            self._models.pop(model_id, None)

    def _models_to_go(self, new: _Held[str], *, standing: bool) -> list[str]:
        limit = self._limit_mb * 10**6
        serve = {name: whose for (name, _), whose in self._standing.items()}
        here = [replace(one, account=serve.get(one.what, one.account)) for one in self._models.values()]
        gone: list[str] = []
        while sum(one.size for one in here) + new.size > limit:
            passing = [one for one in here if one.what not in serve]
            serving = [one for one in here if one.what in serve]
            first = _first_to_go(passing, new)
            if first is None and standing:  # nobody but those in service is left: the ones who have more than it will
                held = _held([*serving, new])
                more = [one for one in serving if held[one.account] - one.size >= held[new.account]]
                first = _first_to_go(more, new)
            if first is None:
                raise self._no_room(new, sum(one.size for one in serving))
            here.remove(first)
            gone.append(first.what)
        return gone

    def _shapes_to_go(self, account: str) -> list[Key]:
        passing = [_Held(one, had.account, 1) for one, had in self._shapes.items() if one not in self._standing]
        if len(passing) < PASSING_KEPT:
            return []
        new: _Held[Key] = _Held(("", ()), account, 1)
        first = _first_to_go(passing, new)
        return [] if first is None else [first.what]

    def _no_room(self, new: _Held[str], serving: int) -> NoRoom:
        return NoRoom(
            f"no room for {new.what}: its weights are {new.size / 1e6:.2f} MB, those in service here "
            f"{serving / 1e6:.2f} MB, and NVP_MODELS_MB is {self._limit_mb:g}; raise that, or serve fewer"
        )


def _held(all_: Sequence[_Held[What]]) -> Counter[str]:
    """How much each account has."""
    held = Counter[str]()
    for one in all_:
        held[one.account] += one.size
    return held


def _first_to_go(there: Sequence[_Held[What]], new: _Held[What]) -> _Held[What] | None:
    """What has not been used for longest of whoever has most, with what is ``new``."""
    held = _held([*there, new])
    most = max((one.account for one in there), key=lambda account: held[account], default=None)
    return next((one for one in there if one.account == most), None)
