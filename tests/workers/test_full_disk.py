"""A worker whose scratch disk is full: said as what it is, paid once, not computed again. Takes root to mount one."""

from __future__ import annotations

import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from nvp_agentkit.errors import ResultNotKept, StoreUnavailable, from_wire
from nvp_agentkit.messages import JobFailed
from nvp_agentkit.workers import refusals, training


@pytest.fixture(params=["size=64k"])
def disk(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Where workers put scratch files, as small as the test says."""
    path = tmp_path / "disk"
    path.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", request.param, "tmpfs", path], capture_output=True, text=True, check=False
    )
    if mounted.returncode:
        pytest.skip(f"no disk to fill: {mounted.stderr.strip()}")
    monkeypatch.setattr(tempfile, "tempdir", str(path))
    yield path
    subprocess.run(["umount", "--lazy", path], check=True)


async def test_a_result_without_room_is_no_defect_and_paid_once(bench, disk: Path) -> None:
    delivery = bench.simulation()
    with pytest.raises(ResultNotKept, match=r"simulate: .*No space left on device.*; make room there") as caught:
        await training.answer(delivery, bench.system)
    assert not caught.value.retryable
    told = bench.said(refusals.job(bench.system, delivery, caught.value))
    assert isinstance(told, JobFailed)
    assert type(from_wire(told.code, told.detail)) is StoreUnavailable
    balance = await bench.balance()
    assert told.energy is not None
    assert (balance.spent_mj, balance.reserved_mj) == (told.energy.mj, 0)


@pytest.mark.parametrize("disk", ["nr_inodes=1"], indirect=True)
async def test_a_job_without_a_scratch_folder_waits_for_one_and_costs_nothing(bench, disk: Path) -> None:
    with pytest.raises(StoreUnavailable, match=r"no scratch folder for a job .*No space left.*; make room") as caught:
        await training.answer(bench.simulation(), bench.system)
    assert caught.value.retryable
    balance = await bench.balance()
    assert (balance.spent_mj, balance.reserved_mj) == (0, 0)
