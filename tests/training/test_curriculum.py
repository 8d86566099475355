"""A loss that looks several steps ahead, further as the allowance is used."""

from __future__ import annotations

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from nvp_agentkit.errors import InvalidField, InvalidInput
from nvp_agentkit.fields.sequence import FieldMeta, SequenceSet
from nvp_agentkit.model import Normalization
from nvp_agentkit.model.network import run
from nvp_agentkit.model.state import pack, unpack
from nvp_agentkit.training import MemberConfig, MemberTrainer, StepPacer
from nvp_agentkit.training.examples import Examples
from nvp_agentkit.training.step import loss_of

from .conftest import SMALL, drifting

THREE = replace(SMALL, rollout_steps=3, variance_weight=0.0)


def test_later_targets_are_the_frames_that_follow_and_no_window_runs_over_the_end():
    counting = np.arange(10, dtype=np.float32)[:, None, None] * np.ones((10, 16, 16), np.float32)
    data = SequenceSet(counting.reshape(2, 5, 16, 16), None, FieldMeta("counting"))
    batch = Examples(data, SMALL.model_config, Normalization(), crop=128, ahead=2).batch(0, 0, 4)
    came = sorted(zip(batch.target[:, 0, 0], batch.later[:, 0, 0, 0], strict=True))
    assert came == [(2, 3), (3, 4), (7, 8), (8, 9)]
    with pytest.raises(InvalidField, match="context of 2 and 4 steps ahead needs at least 6"):
        Examples(data, SMALL.model_config, Normalization(), crop=128, ahead=4)


def test_lengths_grow_from_one_in_equal_parts_of_the_allowance(train, validation, monkeypatch):
    lengths = []

    def looked(config, state, batch, rate, scale):
        lengths.append(1 if batch.later is None else 1 + batch.later.shape[-1])
        return state._replace(step=state.step + 1), 1.0

    monkeypatch.setattr("nvp_agentkit.training.member_trainer.train_step", looked)
    MemberTrainer(THREE).fit(train, validation, StepPacer(6))
    assert lengths == [1, 1, 2, 2, 3, 3]


def test_each_forecast_is_made_from_the_one_before():
    """A fresh network that takes all of the last increment, without a flow, goes on in a straight line."""
    batch = Examples.of(drifting(2, seed=0), THREE).batch(0, 0, 4)
    fresh = THREE.first_variables()
    weights = pack({"params": fresh["params"] | {"share": np.float32(1)}})
    loss = jax.jit(lambda given: loss_of(THREE, given, batch, np.float32(1), jax.random.key(0)))(weights)
    before, newest = np.split(batch.frames, 2, axis=-1)
    came = np.concatenate([batch.target[..., None], batch.later], -1)
    errors = np.mean((newest + np.arange(1, 4) * (newest - before) - came) ** 2, axis=(0, 1, 2))
    assert loss == pytest.approx(np.mean(errors / np.array([1, 4, 9])), rel=1e-5)


def test_a_hole_in_a_frame_is_one_in_each_step_that_still_looks_at_it():
    two = replace(THREE, model_config=replace(THREE.model_config, masked=True), rollout_steps=2)
    batch = Examples.of(drifting(2, seed=0), two).batch(0, 0, 4)
    hole = np.zeros((16, 16, 1), bool)
    hole[3:6, 3:6] = True
    batch = batch._replace(valid=np.where(hole, np.float32(0), batch.valid))
    batch = batch._replace(frames=batch.frames * batch.valid)
    weights = np.random.default_rng(0).normal(0, 0.1, pack(two.first_variables()).shape).astype(np.float32)
    network, variables = two.model_config, unpack(two.model_config, weights)
    first, _ = run(network, variables, batch.frames, batch.valid, batch.origin)
    newer = np.stack([batch.frames[..., 1], np.asarray(first)], -1)

    def loss_if_second_sees(seen: np.ndarray) -> float:
        second, _ = run(network, variables, newer, seen)
        errors = [np.mean((one - came) ** 2) for one, came in ((first, batch.target), (second, batch.later[..., 0]))]
        return float(errors[0] + errors[1] / 4) / 2

    everywhere = np.ones_like(batch.valid)
    older_has_holes = np.concatenate([batch.valid[..., 1:], everywhere[..., :1]], -1)
    loss = loss_of(two, jnp.asarray(weights), batch, np.float32(1), jax.random.key(0))
    assert loss == pytest.approx(loss_if_second_sees(older_has_holes), rel=1e-6)
    assert loss != pytest.approx(loss_if_second_sees(everywhere), rel=1e-5)


def test_no_steps_ahead_are_refused():
    with pytest.raises(InvalidInput, match="rollout_steps is 0"):
        MemberConfig(rollout_steps=0)
