"""Three: data. A sequence of maps, from an equation or from a file of yours, kept under its digest."""

from __future__ import annotations

from pathlib import Path

import numpy as np


async def test_a_simulation_is_a_job_whose_progress_you_can_follow(agent) -> None:
    async with agent() as nvp:
        job = await nvp.simulate("plasma_physics", budget_j=60, trajectories=1, frames=4, size=16)
        steps = [progress.step async for progress in job]  # live, as the job goes on
        done = await job.result()
    assert steps == sorted(steps)
    assert (done.kind, done.summary["frames"], done.summary["height"]) == ("simulate", 4, 16)


async def test_data_has_the_name_of_its_bytes(agent, dataset) -> None:
    # The same equation, size and seed give the same bytes, so they have one name and are kept once.
    async with agent() as nvp:
        again = await (
            await nvp.simulate("plasma_physics", budget_j=60, trajectories=6, frames=16, size=32, seed=7)
        ).result()
    assert again.dataset == dataset.ref
    assert dataset.ref.uri == f"artifact:sha256/{dataset.ref.digest[7:9]}/{dataset.ref.digest[9:]}"


async def test_it_can_be_looked_at(agent, dataset) -> None:
    async with agent() as nvp:
        frames = await nvp.frames(dataset.ref, trajectory=2, first=0, count=3)
    assert frames.shape == (3, 32, 32)
    assert np.isfinite(frames).all()
    assert dataset.job.summary["units"] == "n0 Te (rho_s/L_n)^2"


async def test_a_file_of_your_own_does_as_well(agent, tmp_path: Path) -> None:
    # (T, H, W) or (N, T, H, W); NaN says where nothing was observed, and is left out of loss and score.
    rain = np.random.default_rng(0).gamma(2.0, size=(24, 20, 24)).astype(np.float32)
    rain[:, :5] = np.nan
    np.savez(tmp_path / "radar.npz", rain_mm_h=rain)
    async with agent() as nvp:
        done = await (
            await nvp.import_file(tmp_path / "radar.npz", domain="rain", array="rain_mm_h", units="mm/h", budget_j=5)
        ).result()
        frames = await nvp.frames(done.dataset)
        filled = await nvp.frames(done.dataset, filled=True)
    assert (done.summary["units"], done.summary["masked_cells"]) == ("mm/h", 24 * 5 * 24)
    np.testing.assert_array_equal(frames, rain[:2])  # NaN again
    assert np.isfinite(filled).all()  # and what training sees there, for a forecast from these frames
    np.testing.assert_array_equal(filled[:, 5:], rain[:2, 5:])
