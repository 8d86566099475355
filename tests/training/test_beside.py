"""Maps beside the field: what a network does with them, and what it says of those it cannot use."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest

from nvp_agentkit.errors import InvalidField, InvalidFile, InvalidInput
from nvp_agentkit.fields.sequence import SequenceSet
from nvp_agentkit.model import (
    ModelBundle,
    NetworkForecaster,
    NVPConfig,
    load_model,
    model_bytes,
    predict_next,
    rollout,
    sample_next,
)
from nvp_agentkit.model.export import export_model
from nvp_agentkit.model.state import initial_variables
from nvp_agentkit.training import MemberTrainer, StepPacer, TrainedModel, TrainingConfig, evaluate
from nvp_agentkit.training.examples import Examples
from nvp_agentkit.training.parent import Parent

from .conftest import META, SMALL, drifting

SHOWN = ("heating", "dt")
BLIND = replace(SMALL, model_config=replace(SMALL.model_config, stem=2))
TOLD = replace(BLIND, model_config=replace(BLIND.model_config, beside=SHOWN))


def heated(trajectories: int, seed: int, frames: int = 8, side: int = 16) -> SequenceSet:
    """What is there stays, and is heated by an amount that another map says, for as long as a number says."""
    rng = np.random.default_rng(seed)
    heating = rng.standard_normal((trajectories, frames, 1, side)).astype(np.float32)
    heating = np.broadcast_to(heating, (trajectories, frames, side, side)).copy()
    dt = np.broadcast_to(rng.choice([0.5, 2.0], (trajectories, 1, 1, 1)).astype(np.float32), heating.shape).copy()
    first = drifting(trajectories, seed, 1, side).values
    added = np.cumsum(heating * dt, 1) - heating * dt
    meta = replace(META, positive=False)
    return SequenceSet(first + added, None, meta, {"heating": 273 + 10 * heating, "dt": dt, "unused": heating})


def added(change: np.ndarray, heating: np.ndarray) -> float:
    """How much of ``heating`` there is in ``change``; 0.5 is right for half a second."""
    return float(np.polyfit(heating.ravel() / 10, change.ravel(), 1)[0])


@pytest.fixture(scope="module")
def known() -> tuple[SequenceSet, SequenceSet]:
    return heated(24, 0), heated(8, 1)


@pytest.fixture(scope="module")
def trained(known) -> TrainedModel:
    return MemberTrainer(TOLD).fit(*known, StepPacer(250))


def test_what_other_fields_say_of_the_next_frame_is_learnt(trained, known):
    blind = MemberTrainer(BLIND).fit(*known, StepPacer(250))
    came = heated(8, 2)
    assert evaluate(trained.bundle, came).vrmse < 0.6 * evaluate(blind.bundle, came).vrmse


def test_one_set_of_weights_forecasts_over_the_step_it_is_told(trained):
    data = heated(8, 3)
    frames = data.values[:, :2]
    heating = data.channels["heating"][:, 1]
    short, long = (predict_next(trained.bundle, frames, beside={"heating": heating, "dt": dt})[0] for dt in (0.5, 2.0))
    assert added(long - frames[:, 1], heating) > 2 * added(short - frames[:, 1], heating) > 0.4


def test_a_number_a_map_and_a_map_a_window_say_the_same(trained):
    frames = heated(3, 4).values[:, :2]
    grid = frames.shape[2:]
    forms = [2.0, np.float64(2), np.full(grid, 2), np.full((3, 1, 1), 2.0), np.full((3, *grid), 2, np.int32)]
    first, *others = (predict_next(trained.bundle, frames, beside={"heating": 273.0, "dt": form})[0] for form in forms)
    assert all(np.array_equal(first, other) for other in others)


def test_a_cell_without_a_value_beside_is_shown_the_mean(trained):
    frames = heated(2, 4).values[:, :2]
    at_mean = {"heating": trained.bundle.beside[0].offset, "dt": 2.0}
    missing = {"heating": np.full(frames.shape[2:], np.nan), "dt": 2.0}
    told, guessed = (predict_next(trained.bundle, frames, beside=one)[0] for one in (at_mean, missing))
    np.testing.assert_allclose(told, guessed, atol=1e-5)


def test_what_a_mask_leaves_out_is_not_learnt_from_beside_either():
    data, hole = heated(4, 0), np.ones((4, 8, 16, 16), bool)
    hole[..., 3:9, 3:9] = False
    config = replace(TOLD.model_config, masked=True)
    wild = {name: np.where(hole, values, np.float32(1e6)) for name, values in data.channels.items()}
    clean, spoilt = (
        Examples.of(replace(data, mask=hole, channels=channels), replace(TOLD, model_config=config))
        for channels in (data.channels, wild)
    )
    assert clean.beside_units == spoilt.beside_units
    np.testing.assert_array_equal(clean.batch(0, 0, 4).beside, spoilt.batch(0, 0, 4).beside)


def test_a_rollout_and_samples_hold_what_is_beside_as_it_was(trained):
    data = heated(2, 5)
    frames, beside = data.values[:, :2], {"heating": data.channels["heating"][:, 1], "dt": 0.5}
    means, log_vars = rollout(trained.bundle, frames, 3, beside=beside)
    first, first_log_var = predict_next(trained.bundle, frames, beside=beside)
    np.testing.assert_allclose(means[:, 0], first, atol=1e-4)
    np.testing.assert_allclose(log_vars[:, 0], first_log_var, atol=1e-3)
    one, three = (added(mean - frames[:, 1], beside["heating"]) for mean in (first, means[:, 2]))
    assert three > 1.5 * one
    drawn = sample_next(trained.bundle, frames, 40, seed=0, beside=beside)
    assert np.abs(drawn.mean(0) - first).mean() < np.abs(drawn - first).mean()


def test_a_loss_over_several_steps_holds_it_too(known):
    trained = MemberTrainer(replace(TOLD, rollout_steps=2)).fit(*known, StepPacer(4))
    assert trained.stopped_by == "pacer"
    assert [line.note for line in trained.history if line.note] == []


def test_it_is_stored_with_the_units_of_its_maps(trained):
    data = model_bytes(trained.bundle)
    again = load_model(data)
    assert again.config.beside == SHOWN
    assert model_bytes(again) == data
    frames, beside = heated(1, 6).values[:, :2], {"heating": 280.0, "dt": 0.5}
    np.testing.assert_array_equal(*(predict_next(one, frames, beside=beside)[0] for one in (trained.bundle, again)))
    units = b'\\"beside\\":[['
    assert data.count(units) == 1
    with pytest.raises(InvalidFile, match="not a usable model file"):
        load_model(data.replace(units, b'\\"besidf\\":[['))
    with pytest.raises(InvalidInput, match="units of 1 maps beside the field, a network that looks at 2"):
        replace(trained.bundle, beside=trained.bundle.beside[:1])


def test_who_is_shown_nothing_more_is_written_as_ever():
    plain = SMALL.model_config
    data = model_bytes(ModelBundle(plain, initial_variables(plain, 0)))
    about = json.loads(data[8 : 8 + int.from_bytes(data[:8], "little")])["__metadata__"]["nvp"]
    assert "beside" not in about + plain.to_json() + str(SMALL.to_dict())
    assert NVPConfig.from_json(TOLD.model_config.to_json()) == TOLD.model_config


@pytest.mark.parametrize(
    ("beside", "told"),
    [
        (None, "given: nothing; this network looks at heating, dt"),
        ({"heating": 1.0}, "given: heating; this network looks at heating, dt"),
        ({"heating": 1.0, "dt": 1.0, "wind": 1.0}, "given: dt, heating, wind"),
        ({"heating": np.zeros((16, 17)), "dt": 1.0}, "heating has shape (16, 17)"),
        ({"heating": np.zeros(16), "dt": 1.0}, "heating has shape (16,)"),
        ({"heating": np.zeros((5, 1, 1)), "dt": 1.0}, "heating has shape (5, 1, 1)"),
        ({"heating": np.zeros((1, 2, 16, 16)), "dt": 1.0}, "heating has shape (1, 2, 16, 16)"),
        ({"heating": np.inf, "dt": 1.0}, "heating holds infinite values"),
        ({"heating": "warm", "dt": 1.0}, "heating is <U4"),
    ],
)  # fmt: skip
def test_maps_that_cannot_be_shown_are_refused(trained, beside, told):
    with pytest.raises(InvalidField) as refused:
        predict_next(trained.bundle, heated(2, 4).values[:, :2], beside=beside)
    assert told in str(refused.value)


def test_who_looks_at_the_field_alone_is_given_nothing_beside_it():
    plain = SMALL.model_config
    with pytest.raises(InvalidField, match="given: dt; this network looks at nothing"):
        predict_next(ModelBundle(plain, initial_variables(plain, 0)), heated(1, 4).values[:, :2], beside={"dt": 1.0})


def test_data_without_the_channel_are_refused_by_name():
    with pytest.raises(InvalidField, match="looks at heating beside the field; the data have these channels: none"):
        MemberTrainer(TOLD).fit(drifting(4, 0), drifting(2, 1), StepPacer(1))


@pytest.mark.parametrize("names", [("",), ("a", "a"), ("a", 3), tuple(f"m{place}" for place in range(33))])
def test_names_that_are_none_are_refused(names):
    with pytest.raises(InvalidInput, match="beside"):
        NVPConfig(beside=names)


def test_who_cannot_carry_the_maps_says_so(trained, tmp_path):
    with pytest.raises(InvalidInput, match="heating, dt beside the field"):
        NetworkForecaster(trained.bundle)
    with pytest.raises(InvalidInput, match="takes frames alone"):
        export_model(trained.bundle, tmp_path / "with a program", sizes=[(16, 16)])
    with pytest.raises(InvalidInput, match="MemberTrainer"):
        TrainingConfig(TOLD.model_config)
    with pytest.raises(InvalidInput, match="nothing beside it"):
        NVPConfig.documented(beside=("dt",))
    export_model(trained.bundle, tmp_path / "without")
    card = (tmp_path / "without" / "README.md").read_text()
    assert "maps of heating, dt" in card
    assert "nvp evaluate" not in card


def test_a_parent_of_other_maps_is_another_network(trained):
    with pytest.raises(InvalidInput, match="beside"):
        Parent.of(trained.bundle).require(SMALL.model_config)
