"""Who gives way where models and programs have to be let go of: never what serves, and never the one for the many."""

from __future__ import annotations

import pytest

from nvp_agentkit.errors import NoRoom
from nvp_agentkit.workers.serving import room
from nvp_agentkit.workers.serving.room import Price, Room

MB, SHAPE = 10**6, (2, 32, 32)


def load(there: Room, name: str, account: str = "a", *, mb: int = 1, shape=SHAPE, standing: bool = False) -> bool:
    gone = there.admit((name, shape), mb * MB, account, standing=standing)
    there.compiled((name, shape), account, (1,), Price(0.1, 0.1))
    return gone


def test_models_stay_as_long_as_their_weights_fit_and_then_the_one_longest_unused_goes() -> None:
    there = Room(3)
    assert [load(there, name) for name in "xyz"] == [False, False, False]
    assert there.used(("x", SHAPE))
    assert load(there, "w")
    assert there.models == ["z", "x", "w"]
    assert there.used(("y", SHAPE)) is None
    assert load(there, "large", mb=3)
    assert there.models == ["large"] == [name for name, _ in there.shapes]


def test_an_account_with_many_makes_room_among_its_own() -> None:
    there = Room(4)
    load(there, "b1", "b")
    for n in range(20):
        load(there, f"a{n}")
    assert there.models == ["b1", "a17", "a18", "a19"]


def test_what_serves_stays_whoever_asks_for_what() -> None:
    there = Room(3)
    load(there, "serves", "b", standing=True)
    for n in range(5):
        load(there, f"a{n}")
    assert there.models == ["serves", "a3", "a4"]
    with pytest.raises(NoRoom, match=r"weights are 3\.00 MB, those in service here 1\.00 MB, and NVP_MODELS_MB is 3"):
        load(there, "large", mb=3)
    there.stands({})
    load(there, "large", mb=3)
    assert there.models == ["large"]


def test_where_what_serves_is_too_much_by_itself_who_has_more_gives_way_to_who_has_less_and_not_back() -> None:
    there = Room(3)
    for n in range(3):
        load(there, f"a{n}", standing=True)
    load(there, "b0", "b", standing=True)
    assert there.models == ["a1", "a2", "b0"]
    for name, account in (("a0", "a"), ("b1", "b")):
        with pytest.raises(NoRoom, match="no room for"):
            load(there, name, account, standing=True)
    assert there.models == ["a1", "a2", "b0"]


def test_shapes_that_nobody_keeps_ready_are_bounded_and_the_account_with_most_loses_its_oldest(monkeypatch) -> None:
    monkeypatch.setattr(room, "PASSING_KEPT", 4)
    there = Room(100)
    load(there, "serves", "b", standing=True)
    load(there, "m", "b")
    for side in range(40, 60):
        load(there, "n", shape=(2, side, side))
    assert there.shapes == [("serves", SHAPE), ("m", SHAPE), *(("n", (2, side, side)) for side in (57, 58, 59))]


def test_a_shape_that_is_ready_for_single_requests_is_not_ready_for_batches() -> None:
    there = Room(1)
    load(there, "x")
    assert there.used(("x", SHAPE), (1,))
    assert there.used(("x", SHAPE), (1, 4)) is None


def test_what_could_not_be_loaded_takes_no_room() -> None:
    there = Room(1)
    there.admit(("broken", SHAPE), MB, "a", standing=False)
    there.failed("broken")
    assert there.models == []
    assert not load(there, "x")


def test_what_was_ready_in_a_child_that_is_gone_is_not_ready_in_the_next() -> None:
    there = Room(3)
    there.admit(("x", SHAPE), MB, "a", standing=False)
    there.clear()  # while it was being loaded
    there.compiled(("x", SHAPE), "a", (1,), Price(0.1, 0.1))
    assert there.used(("x", SHAPE)) is None
    assert not load(there, "x")
    assert there.used(("x", SHAPE))
