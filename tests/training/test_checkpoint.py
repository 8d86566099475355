from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from nvp_agentkit.errors import InvalidFile
from nvp_agentkit.model import model_bytes
from nvp_agentkit.training import MemberTrainer, StepPacer, load_checkpoint, save_checkpoint

from .conftest import SMALL, untrained


class Until(StepPacer):
    """The schedule of ``steps`` steps, stopped at ``stop``."""

    stop = 10

    def may_continue(self, step: int) -> bool:
        return step < self.stop


def test_ten_steps_and_ten_more_are_twenty_bit_for_bit(train, validation, tmp_path):
    whole = MemberTrainer(SMALL).fit(train, validation, StepPacer(20))
    half = MemberTrainer(SMALL).fit(train, validation, Until(20))
    save_checkpoint(half.state, SMALL, tmp_path / "run.safetensors")
    resumed = MemberTrainer(SMALL).fit(
        train, validation, StepPacer(20), resume=load_checkpoint(SMALL, tmp_path / "run.safetensors")
    )
    assert (half.steps, resumed.steps) == (10, 20)
    np.testing.assert_array_equal(resumed.state.weights, whole.state.weights)
    np.testing.assert_array_equal(resumed.state.average, whole.state.average)
    if whole.kept_step > 10:
        assert model_bytes(resumed.bundle) == model_bytes(whole.bundle)


def test_a_state_can_be_resumed_twice(train, validation):
    half = MemberTrainer(SMALL).fit(train, validation, Until(20))
    once, twice = (MemberTrainer(SMALL).fit(train, validation, StepPacer(20), resume=half.state) for _ in range(2))
    np.testing.assert_array_equal(once.state.weights, twice.state.weights)


def test_a_checkpoint_of_another_recipe_is_refused(tmp_path):
    save_checkpoint(untrained(), SMALL, tmp_path / "run.safetensors")
    with pytest.raises(InvalidFile, match="another configuration"):
        load_checkpoint(replace(SMALL, seed=1), tmp_path / "run.safetensors")


@pytest.mark.parametrize("share", [0.0, 0.01, 0.5, 0.99])
def test_a_truncated_checkpoint_is_refused(tmp_path, share):
    path = tmp_path / "run.safetensors"
    save_checkpoint(untrained(), SMALL, path)
    path.write_bytes(path.read_bytes()[: int(share * path.stat().st_size)])
    with pytest.raises(InvalidFile):
        load_checkpoint(SMALL, path)


def test_a_missing_checkpoint_is_refused_and_never_random_weights(tmp_path):
    with pytest.raises(InvalidFile, match=r"run\.safetensors"):
        load_checkpoint(SMALL, tmp_path / "run.safetensors")


def test_weights_that_are_not_finite_are_refused(tmp_path):
    state = untrained()
    save_checkpoint(state._replace(weights=state.weights * np.nan), SMALL, tmp_path / "run.safetensors")
    with pytest.raises(InvalidFile, match="finite"):
        load_checkpoint(SMALL, tmp_path / "run.safetensors")
