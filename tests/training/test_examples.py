from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from nvp_agentkit.fields.sequence import FieldMeta, SequenceSet
from nvp_agentkit.model import Normalization, NVPConfig
from nvp_agentkit.training.examples import HALO, Examples, all_windows

from .conftest import SMALL, drifting, masked

CONFIG = SMALL.model_config


def test_every_window_is_seen_once_an_epoch():
    values = np.arange(3 * 5, dtype=np.float32)[:, None, None] * np.ones((15, 16, 16), np.float32)
    data = SequenceSet(values.reshape(3, 5, 16, 16), None, FieldMeta("counting", boundary=("periodic", "periodic")))
    examples = Examples(data, CONFIG, Normalization(), crop=128)
    seen = np.concatenate([np.asarray(examples.batch(0, step, 3).target)[:, 0, 0] for step in range(3)])
    assert sorted(seen) == [2, 3, 4, 7, 8, 9, 12, 13, 14]


def test_as_many_crops_are_cut_from_a_window_as_fit_into_it_before_others_come(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("nvp_agentkit.training.examples.SHELF", 3)
    values = np.arange(2 * 8, dtype=np.float32)[:, None, None] * np.ones((16, 32, 32), np.float32)
    data = SequenceSet(values.reshape(2, 8, 32, 32), None, FieldMeta("counting", boundary=("periodic", "periodic")))
    examples = Examples(data, CONFIG, Normalization(), crop=16)
    seen = [float(examples.batch(0, step, 1).target[0, 0, 0]) for step in range(48)]
    shelves = [set(seen[start : start + 12]) for start in range(0, 48, 12)]
    assert [len(shelf) for shelf in shelves] == [3] * 4
    assert all(seen.count(one) == 4 for one in seen)


def test_a_batch_is_a_function_of_seed_and_step():
    examples = Examples(drifting(2, 0), CONFIG, Normalization(), crop=128)
    later, again = examples.batch(0, 7, 4), examples.batch(0, 7, 4)
    np.testing.assert_array_equal(later.frames, again.frames)
    assert not np.array_equal(later.frames, examples.batch(1, 7, 4).frames)


def test_a_periodic_field_is_rolled_as_one():
    data = drifting(1, 0, frames=3)
    batch = Examples(data, CONFIG, Normalization(), crop=128).batch(0, 0, 1)
    shown, target = np.asarray(batch.frames[0, ..., 1]), np.asarray(batch.target[0])
    rolls = [
        (y, x)
        for y in range(16)
        for x in range(16)
        if np.array_equal(np.roll(data.values[0, 1], (-y, -x), (0, 1)), shown)
    ]
    assert len(rolls) == 1
    (roll,) = rolls
    np.testing.assert_array_equal(np.roll(data.values[0, 2], (-roll[0], -roll[1]), (0, 1)), target)


def test_an_open_field_is_never_rolled():
    data = replace(drifting(1, 0, frames=3), meta=FieldMeta("open"))
    config = replace(CONFIG, boundary=("open", "open"))
    batch = Examples(data, config, Normalization(), crop=128).batch(3, 1, 1)
    np.testing.assert_array_equal(batch.target[0], data.values[0, 2])


@pytest.mark.parametrize("boundary", ["periodic", "open"])
def test_a_crop_carries_no_loss_in_its_halo(boundary):
    data = drifting(1, 0, frames=3, side=48)
    config = replace(CONFIG, boundary=(boundary, boundary))
    batch = Examples(data, config, Normalization(), crop=32).batch(0, 0, 2)
    weight = np.asarray(batch.weight)
    assert batch.frames.shape == (2, 32, 32, 2)
    assert weight[:, HALO:-HALO, HALO:-HALO].all()
    assert weight.sum() == 2 * (32 - 2 * HALO) ** 2


def test_some_windows_of_a_long_context_show_fewer_frames_with_the_oldest_of_them_repeated():
    values = np.arange(400, dtype=np.float32)[:, None, None] * np.ones((400, 16, 16), np.float32)
    data = SequenceSet(values.reshape(4, 100, 16, 16), None, FieldMeta("counting", boundary=("periodic", "periodic")))
    examples = Examples(data, replace(CONFIG, context_frames=4), Normalization(), crop=128)
    batch = examples.batch(0, 0, 384)
    shown, target = batch.frames[:, 0, 0], batch.target[:, 0, 0]
    ages = {tuple(target[at] - one) for at, one in enumerate(shown)}
    assert ages == {(4, 3, 2, 1), (3, 3, 2, 1), (2, 2, 2, 1)}
    shorter = np.mean(shown[:, 0] == shown[:, 1])
    assert 0.06 < shorter < 0.2
    np.testing.assert_array_equal(examples.batch(0, 0, 384).frames, batch.frames)


def test_where_values_are_is_repeated_with_them():
    data = masked(drifting(2, 0, frames=40), fill=0.0)
    examples = Examples(data, replace(CONFIG, context_frames=4, masked=True), Normalization(7.0, 1.0), crop=128)
    batch = examples.batch(0, 0, 64)
    shorter = [at for at, one in enumerate(batch.frames) if np.array_equal(one[..., 0], one[..., 1])]
    assert shorter
    for at in shorter:
        np.testing.assert_array_equal(batch.valid[at, ..., 0], batch.valid[at, ..., 1])


def test_holes_have_no_weight_and_no_value():
    data = masked(drifting(2, 0), fill=1e6)
    batch = Examples(data, replace(CONFIG, masked=True), Normalization(7.0, 1.0), crop=128).batch(0, 0, 4)
    assert np.abs(batch.frames).max() < 10
    assert np.asarray(batch.weight).sum() == 4 * (256 - 25)
    np.testing.assert_array_equal(np.asarray(batch.frames)[np.asarray(batch.valid) == 0], 0)


def test_the_step_variance_is_persistence_s_error():
    data = drifting(2, 0)
    examples = Examples(data, CONFIG, Normalization(0.0, 2.0), crop=128)
    assert examples.step_variance == pytest.approx(np.mean(np.diff(data.values, axis=1) ** 2) / 4, rel=1e-5)


def test_all_windows_are_in_order_with_their_masks():
    data = masked(drifting(2, 0, frames=5), fill=0.0)
    frames, seen, target, there = all_windows(data, 2)
    assert frames.shape == (6, 2, 16, 16)
    np.testing.assert_array_equal(target[4], data.values[1, 3])
    np.testing.assert_array_equal(seen[4], data.mask[1, 1:3])
    np.testing.assert_array_equal(there[4], data.mask[1, 3])


def test_a_constant_field_can_be_normalised():
    assert Normalization.fit(np.full((1, 3, 16, 16), 5, np.float32)) == Normalization(5.0, 1.0, 5.0, 5.0)


def test_a_context_of_one_has_one_window_more():
    assert Examples(drifting(2, 0, frames=5), NVPConfig(context_frames=1), Normalization(), crop=128).count == 8


def test_the_range_of_a_rollout_is_that_of_the_training_data_and_half_as_much_on_either_side():
    values = np.linspace(1, 3, 16 * 16, dtype=np.float32).reshape(1, 1, 16, 16)
    units = Normalization.fit(values, values < 2.9)
    assert (units.low, units.high) == pytest.approx((0.05, 3.85), abs=0.05)
