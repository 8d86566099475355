"""Where things are kept."""

from __future__ import annotations

import inspect

from redis.crc import key_slot

from nvp_agentkit.streams import names


def test_all_keys_of_an_account_are_in_one_slot_of_a_cluster() -> None:
    """What completes an entry, or takes one over, is one function on all of them: a cluster runs none across slots."""
    stream = names.key("ace-1", "predict")
    made = {stream, names.dead(stream), names.key("ace-1", names.decided("r-1"))}
    for name, function in inspect.getmembers(names, inspect.isfunction):
        parameters = list(inspect.signature(function).parameters)
        if parameters[0] == "account" and name != "key":
            made.add(function("ace-1", *parameters[1:]))
    assert len(made) > 8
    assert len({key_slot(one.encode()) for one in made}) == 1
