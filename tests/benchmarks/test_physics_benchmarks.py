"""What the benchmarks of model and trainer stand on: settings, results that are kept, peers, a tiny GPU run."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from benchmarks import __main__ as program
from benchmarks import cells, gpu, reference_data
from benchmarks.clock import CpuPacer, gflop, side_by_side
from benchmarks.verdict import BrokenError


def test_a_setting_that_a_benchmark_does_not_have_is_wrong_usage() -> None:
    with pytest.raises(SystemExit, match="2"):
        program.main(["import_time", "--cpu-s", "3"])


def test_data_that_are_not_there_are_named_with_the_command_that_makes_them(tmp_path: Path) -> None:
    with pytest.raises(BrokenError, match="nvp atlas make --reference"):
        reference_data.energy(tmp_path)


def test_a_cell_is_made_once_until_its_settings_or_the_code_change(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[int] = []

    def make() -> dict[str, float]:
        made.append(1)
        return {"vrmse": 0.25}

    monkeypatch.setattr(cells, "KEPT", tmp_path)
    for _ in range(2):
        assert cells.cell("gpu", "a/b", {"cpu_s": 1}, make) == {"vrmse": 0.25}
    assert len(made) == 1
    cells.cell("gpu", "a/b", {"cpu_s": 2}, make)
    monkeypatch.setattr(cells, "code", lambda: "other")
    cells.cell("gpu", "a/b", {"cpu_s": 2}, make)
    assert len(made) == 3


def test_an_allowance_of_cpu_seconds_ends() -> None:
    pacer = CpuPacer(0.02)
    assert pacer.may_continue(0)
    while pacer.used_s < 0.02:
        pass
    assert not pacer.may_continue(1)
    assert pacer.fraction_used(1) == 1.0


def test_calls_take_turns_and_the_first_round_is_not_counted() -> None:
    order: list[str] = []
    found = side_by_side({"a": lambda: order.append("a"), "b": lambda: order.append("b")}, rounds=2)
    assert order == ["a", "b"] * 3
    assert set(found) == {"a", "b"}


def test_a_matrix_product_is_counted_in_full() -> None:
    import jax
    import jax.numpy as jnp

    assert gflop(jax.jit(lambda one: one @ one), jnp.ones((100, 100))) == pytest.approx(2e-3)


def test_peers_that_are_not_installed_are_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    from benchmarks.peers import peer

    monkeypatch.setitem(sys.modules, "pdequinox", None)
    with pytest.raises(BrokenError, match="--group benchmarks"):
        peer("u_net", 0, ("periodic", "periodic"))


@pytest.mark.slow
def test_the_gpu_benchmark_runs_tiny_on_a_cpu_and_refuses_to_be_held_to_it() -> None:
    figures = gpu.measure(quick=True)
    unknown = [name for name, figure in figures.items() if figure.value is None or not figure.value > 0]
    assert not unknown
    assert {"float32/of_bound", "bfloat16/train_step_per_sample", "bfloat16/error_over_float32"} <= set(figures)
    with pytest.raises(BrokenError, match="no accelerator"):
        gpu.measure(quick=False)
