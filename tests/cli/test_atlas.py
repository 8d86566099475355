"""`nvp atlas` at a running stack, and where none runs: from a file to a table, from an equation to a dataset."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from nvp_agentkit.cli import deployment
from nvp_agentkit.cli.atlas import evaluating, making, plotting, session
from nvp_agentkit.cli.options import SIMULATED
from nvp_agentkit.domains import DOMAINS, get_domain
from nvp_agentkit.domains.reference import reference
from nvp_agentkit.embedded import lock
from nvp_agentkit.lineage.catalogue import Entry
from nvp_agentkit.lineage.walk import Thing
from nvp_agentkit.messages import ForecasterScore, JobCompleted, ObjectRef
from nvp_agentkit.reference_task import PARTS
from nvp_agentkit.settings import Settings

SMALL = ("--trajectories", 6, "--frames", 8, "--size", 16)
Atlas = Callable[..., object]


@pytest.fixture(scope="module")
def data_dir(tmp_path_factory: pytest.TempPathFactory, compile_cache: Path) -> Iterator[Path]:
    """A folder on which stores, training and recorder run, and nobody but the demo has had an account."""
    folder = tmp_path_factory.mktemp("atlas") / "nvp"
    folder.mkdir()
    (folder / "compile-cache").symlink_to(compile_cache)
    (folder / "accounts").mkdir()
    (folder / "accounts" / "demo.json").write_text("{}")
    with asyncio.Runner(loop_factory=asyncio.new_event_loop) as loop:
        running = deployment.supervisor(Settings(data_dir=folder), lambda event: None, session.WORKERS)
        loop.run(running.start())
        try:
            loop.run(running.ready(timeout_s=120))
            yield folder
        finally:
            loop.run(running.stop())


@pytest.fixture
def atlas(nvp, data_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Atlas:
    """Run ``nvp atlas`` there, in a folder of the test's own."""
    monkeypatch.chdir(tmp_path)
    return lambda *words: nvp("atlas", *words, "--data-dir", data_dir)


@pytest.fixture
def rain(tmp_path: Path) -> Path:
    """Showers that drift, over a coast where nothing is measured."""
    y, x = np.mgrid[0:24, 0:32]
    values = np.stack([9 * np.exp(-((x - 4 - 0.7 * t) ** 2 + (y - 8 - t / 2) ** 2) / 20) for t in range(30)])
    values[:, :, 30:] = np.nan
    np.savez(tmp_path / "radar.npz", rain=values, grid=np.zeros(3))
    return tmp_path / "radar.npz"


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_from_a_file_to_a_table_and_a_picture(atlas, rain: Path, tmp_path: Path) -> None:
    brought = atlas("import", f"{rain}:rain", "--domain", "rain", "--units", "mm/h", "--dt-s", 120)
    assert "rain: 1 x 30 frames of 24x32 cells in mm/h" in brought.out
    assert f"{30 * 24 * 2:,} cells have no value" in brought.out

    judged = atlas("evaluate", "rain")
    assert judged.out.splitlines()[1].startswith(("advection", "lagrangian_increment"))
    assert re.search(r"best: \w+; the next, \w+, is [0-9.]+% behind by VRMSE", judged.out)
    assert re.search(r"intervals by nothing: [1-7] windows, and it takes 8\n", judged.out)
    assert "unknown" in judged.out
    with Image.open(tmp_path / "rain-forecasts.png") as picture:
        assert picture.size[0] > 500

    told = atlas("evaluate", "rain", "--json", "--out", tmp_path / "again.png").json
    assert [score["vrmse"] for score in told["scores"]] == sorted(score["vrmse"] for score in told["scores"])
    assert told["best"] == told["scores"][0]["name"]
    assert told["held_out_by"] == "time blocks with a gap"
    assert told["energy"]["mj"] > 0

    (listed,) = atlas("list", "--json").json["datasets"]
    assert (listed["domain"], listed["shape"], listed["dt_s"]) == ("rain", [1, 30, 24, 32], 120)
    assert "rain" in atlas("list").out
    shown = atlas("show", listed["id"][:30])
    assert listed["id"] in shown.out
    assert "120 s" in shown.out
    assert re.search(r"origin file +radar.npz:rain\n", shown.out)
    assert atlas("show", "rain", "--json").json["statistics"]["most"] == pytest.approx(9, rel=0.01)
    drawn = atlas("plot", "rain", "--json").json
    with Image.open(drawn["picture"]) as picture, Image.open(drawn["film"]) as film:
        assert picture.size[0] > 500
        assert (film.format, film.n_frames, film.size) == ("GIF", 30, (352, 264))
    assert "trajectory 1: rain has 1" in atlas("plot", "rain", "--trajectory", 1).err
    assert atlas("check", "rain", "--json").json["whole"]


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_an_atlas_is_made_in_jobs_and_what_is_there_is_not_made_again(atlas) -> None:
    made = atlas("make", "heat_diffusion", *SMALL, "--json").json
    assert (made["jobs"], made["jobs_done_before"]) == (2, 0)
    again = atlas("make", "heat_diffusion", *SMALL, "--json").json
    assert (again["id"], again["jobs_done_before"], again["mj"]) == (made["id"], 2, 0)
    grown = atlas("make", "heat_diffusion", "--trajectories", 9, *SMALL[2:], "--json").json
    assert (grown["jobs"], grown["jobs_done_before"]) == (3, 1)  # the first four are there, the last two of six are not

    found = [one for one in atlas("list", "--json").json["datasets"] if one["domain"] == "heat_diffusion"]
    assert [one["shape"][0] for one in found] == [9, 6]
    parts = [one for one in atlas("list", "--parts", "--json").json["datasets"] if one["part_of"]]
    assert sorted(one["shape"][0] for one in parts) == [1, 2, 4, 4]
    assert atlas("show", "heat_diffusion", "--json").json["meta"]["provenance"]["parts"][0]["seed"] == 0

    alike = atlas("like", "heat_diffusion", "--json").json["like"]
    assert alike[0]["id"] == made["id"]  # of the same plate, and nothing else here is
    assert alike[0]["distance"] < 1
    assert "heat_diffusion" in atlas("like", "heat_diffusion", "--count", 1).out.splitlines()[1]


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_a_variant_is_made_when_it_is_asked_for_and_the_atlas_says_which(atlas) -> None:
    shape = ("--trajectories", 1, "--frames", 4, "--size", 16)
    assert "turbulence_2d, forced: 1 x 4 frames" in atlas("make", "turbulence_2d", "--variant", "forced", *shape).out
    assert "turbulence_2d, forced" in atlas("list").out
    shown = atlas("show", "turbulence_2d", "--json").json
    assert (shown["variant"], shown["meta"]["provenance"]["variant"]) == ("forced", "forced")
    assert "turbulence_2d, forced" in atlas("show", "turbulence_2d").out


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("import", "nowhere.nc", "--domain", "x"), "nowhere.nc: no such file; give the path of a field"),
        (("evaluate", "snow"), "no dataset 'snow' in the atlas"),
        (("evaluate", "snow", "--out", "table.pdf"), "table.pdf: the picture is a PNG"),
        (("make", "weather"), "no simulator for domain 'weather'"),
        (("make", "turbulence_2d", "--variant", "wild"), "no variant 'wild'; there are decaying, forced"),
        (("make", "--reference", "--variant", "forced"), "name a DOMAIN, or ask for --reference instead"),
        (("make",), "name a DOMAIN, or ask for --reference instead"),
        (("make", "heat_diffusion", "--reference"), "name a DOMAIN, or ask for --reference instead"),
    ],
)
def test_what_cannot_be_done_is_one_sentence(atlas, words: tuple[str, ...], said: str) -> None:
    refused = atlas(*words)
    assert refused.status == 1
    assert said in " ".join(refused.err.split())
    assert refused.out == ""


@pytest.mark.parametrize("data", [b"rain", b"\x89HDF\r\n\x1a\n", b"CDF\x01" + bytes(8)])
def test_a_broken_file_is_one_sentence(atlas, tmp_path: Path, data: bytes) -> None:
    (tmp_path / "rain.nc").write_bytes(data)
    refused = atlas("import", tmp_path / "rain.nc", "--domain", "rain", "--json")
    assert (refused.status, refused.json["error"]) == (1, "invalid_file")
    assert refused.json["detail"].startswith("rain.nc")
    assert "\n" not in refused.json["detail"]


def test_help_names_what_the_simulators_know_and_another_domain_is_refused_before_a_stack_is_started(
    nvp, tmp_path: Path
) -> None:
    assert tuple(DOMAINS) == SIMULATED
    refused = nvp("atlas", "make", "heat", "--data-dir", tmp_path / "nvp")
    assert "no simulator for domain 'heat'; known: plasma_physics," in " ".join(refused.err.split())
    assert not (tmp_path / "nvp").exists()


def test_rounding_is_not_drawn_as_if_something_happened() -> None:
    noise = np.float32(7.98) + np.float32(4e-7) * np.arange(3, dtype=np.float32)[None]
    low, high = plotting.span(noise)
    assert (low + high) / 2 == pytest.approx(7.98)
    assert high - low == pytest.approx(0.00798, rel=0.01)
    assert plotting.span(np.zeros((1, 3), np.float32)) == (-0.5, 0.5)
    low, high = plotting.span(np.array([[-10, 10]], np.float32))
    assert low < -10 < 10 < high < 12


@pytest.mark.parametrize(("best", "said"), [(0.2, "the next, b, is 50.0% behind"), (0.0, "the next, b, is at 0.3000")])
def test_the_second_best_is_said_to_be_behind_the_best_even_where_that_is_perfect(best: float, said: str) -> None:
    about = {"held_out_by": "trajectory", "held_out_trajectories": 3, "held_out_frames": 9, "interval_by": "trajectory"}
    figures = {"h1": 0.1, "budget_error": 0.0, "coverage_90": 0.9, "spread_skill": 1.0, "cpu_s": 0.1}
    scores = tuple(ForecasterScore(name=name, vrmse=vrmse, **figures) for name, vrmse in (("a", best), ("b", 0.3)))
    done = JobCompleted.model_construct(scores=scores, summary=about)
    dataset = Thing("DatasetVersion", "dataset:x", {})
    told = evaluating.Evaluation(Entry(dataset, Thing("Run", "run:x", {}), 0, None), done, {}, "lower")
    assert said in told.facts()[0]


def test_shards_of_two_seeds_have_no_seed_in_common() -> None:
    seeds = [spec.seed for seed in range(20) for spec in making.shards("heat_diffusion", 400, 4, 16, seed)]
    assert len(set(seeds)) == len(seeds) == 2000
    assert [spec.trajectories for spec in making.shards("heat_diffusion", 9, 4, 16, 7)] == [4, 4, 1]
    assert making.shards("heat_diffusion", 9, 4, 16, 7)[0].seed == 7


def test_the_reference_task_is_asked_for_as_it_is_pinned() -> None:
    train, validation, test = making.reference()
    assert (train.trajectories, validation.trajectories, test.trajectories) == (8, 2, 4)
    assert (test.domain, test.size, test.frames) == ("plasma_physics", 256, 101)
    asked = get_domain(test.domain).simulate(test.trajectories, 2, 32, test.seed)
    np.testing.assert_array_equal(asked.values, reference("test", size=32, frames=2).values)


def test_bytes_that_are_not_the_pinned_ones_are_said_to_be_others() -> None:
    other = ObjectRef(uri="artifact:x", digest="sha256:" + "0" * 64, bytes=1, media_type="application/x")
    assert "not the pinned bytes" in making.as_pinned("test", other)
    same = other.model_copy(update={"digest": PARTS["test"].digest})
    assert making.as_pinned("test", same) == "the pinned bytes"


@pytest.mark.slow
def test_where_no_stack_runs_one_is_there_for_the_command(nvp, tmp_path: Path) -> None:
    ran = nvp("atlas", "list", "--data-dir", tmp_path / "nvp")
    assert "no dataset yet" in ran.out
    assert "one starts for this command and ends with it" in " ".join(ran.err.split())
    assert lock.left_over(tmp_path / "nvp") == []
