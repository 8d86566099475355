"""One: a stack. Two stores and six processes on your own machine, and nothing else to install.

`nvp up` starts what this chapter looks at; every chapter after it uses the same one.
"""

from __future__ import annotations

import pytest

from nvp_agentkit.cli import deployment
from nvp_agentkit.embedded.stackfile import read_stack
from nvp_agentkit.errors import DataFolderInUse
from nvp_agentkit.streams.health import workers


def test_it_says_of_every_part_when_it_is_really_ready(stack) -> None:
    ready = [event.name for event in stack.events if event.state == "ready"]
    # The stores come first. A worker is ready when it has asked them something and was answered.
    assert set(ready[:2]) == {"valkey", "arcadedb"}
    assert set(ready[2:]) == {"training", "inference", "shadow-1", "shadow-2", "tally", "recorder"}


def test_clients_find_it_by_its_data_folder(stack) -> None:
    # Addresses and generated passwords are in one file, which is its owner's alone.
    path = stack.settings.data_dir / "stack.json"
    assert path.stat().st_mode & 0o777 == 0o600
    found = read_stack(stack.settings.data_dir)
    # Nothing listens beyond this machine.
    assert "127.0.0.1" in found.redis_url
    assert "127.0.0.1" in found.neo4j_uri


async def test_each_worker_is_a_process_of_its_own(owner) -> None:
    seen = {one.name: one.pid for one in await workers(owner)}
    assert set(seen) == set(deployment.WORKERS)
    assert len(set(seen.values())) == 6


async def test_a_data_folder_has_one_stack(stack) -> None:
    second = deployment.supervisor(stack.settings, lambda event: None)
    with pytest.raises(DataFolderInUse, match=r"is in use by process .* choose another folder with --data-dir"):
        await second.start()
