"""Forecasters of somebody else's: kept as models of ours are, and what they do wrong is called theirs."""

from __future__ import annotations

import dataclasses
import json

import numpy as np
import pytest

from nvp_agentkit import plugins
from nvp_agentkit.errors import InvalidFile, InvalidInput, PluginFailed, UnknownName
from nvp_agentkit.fields import SequenceSet
from nvp_agentkit.fields.baselines import NAMES
from nvp_agentkit.fields.sequence import FieldMeta
from nvp_agentkit.model import Calibration, model_id
from nvp_agentkit.model.foreign import ForeignModel, foreign_bytes, is_foreign, load_foreign
from nvp_agentkit.model.storage import load_model
from nvp_agentkit.workers.local import evaluation as local_evaluation

VALUES = np.random.default_rng(0).random((2, 5, 16, 16), np.float32)
TRAIN = SequenceSet(VALUES, None, FieldMeta("rain"))
SOUND = """
import numpy as np
context_frames = 2
def fit(train, *, seed):
    return {"mean": train.values.mean((0, 1))}
def predict_next(learnt, frames, mask):
    told = frames[:, -1] * 0 + learnt["mean"]
    return told, told * 0
"""


def fitted(name: str, seed: int = 0) -> ForeignModel:
    return ForeignModel.fitted(plugins.load(plugins.MODELS, name), TRAIN, seed)


def test_the_example_is_fitted_and_stored_and_forecasts_the_same_when_it_is_read_again(example) -> None:
    known = Calibration(2.0, {0.5: 0.6, 0.9: 1.7, 0.95: 2.1}, ((-1.0, 0.5), (1.0, -0.5)))
    model = dataclasses.replace(fitted("damped_waves"), calibration=known)
    data = foreign_bytes(model)
    again = load_foreign(data)
    assert is_foreign(data)
    assert (again.calibration, again.domain, again.about()) == (model.calibration, "rain", model.about())
    for one, other in zip(model.predict_next(VALUES[:, :2]), again.predict_next(VALUES[:, :2]), strict=True):
        np.testing.assert_array_equal(one, other)
    assert model_id(foreign_bytes(fitted("damped_waves"))) == model_id(foreign_bytes(fitted("damped_waves")))
    assert model_id(foreign_bytes(fitted("damped_waves", seed=1))) != model_id(foreign_bytes(fitted("damped_waves")))


def test_its_doubt_is_calibrated_as_any_other(example) -> None:
    plain = fitted("damped_waves")
    wider = dataclasses.replace(plain, calibration=Calibration(3.0))
    (mean, log_var), (same, more) = plain.predict_next(VALUES[:, :2]), wider.predict_next(VALUES[:, :2])
    np.testing.assert_array_equal(mean, same)
    np.testing.assert_allclose(more - log_var, 2 * np.log(3), rtol=1e-5)


def test_it_is_shown_as_many_frames_as_it_looks_at_and_nought_where_there_is_no_value(install) -> None:
    source = SOUND.replace("frames[:, -1] * 0", "frames[:, 1] + ~mask[:, 0]")
    install("watcher", "1", {"watcher": source}, {plugins.MODELS: {"watcher": "watcher"}})
    model = dataclasses.replace(fitted("watcher"), learnt={"mean": np.zeros((16, 16), np.float32)})
    holed = VALUES[:, :1].copy()
    holed[0, 0, 3, 4] = np.nan
    mean, _ = model.predict_next(holed)  # one frame is repeated
    assert (mean[0, 3, 4], mean[1, 3, 4]) == (1, VALUES[1, 0, 3, 4])


@pytest.mark.parametrize(
    ("broken", "instead", "complaint"),
    [
        ("import numpy as np", "import nobodys_package", "cannot be imported: ModuleNotFoundError"),
        ("import numpy as np", "raise SystemExit(3)", "cannot be imported: SystemExit: 3"),
        ("return {", "raise KeyError('x')  # {", "fit: KeyError: 'x'"),
        ("return {", "import sys; sys.exit(1)  # {", "fit: SystemExit: 1"),
        ('"mean": train', '"mean": "a word", "x": train', "fit gave 'mean', which is no array of numbers"),
        ("context_frames = 2", "context_frames = 99", "context_frames is 99, not a whole number from 1 to 8"),
        ("context_frames = 2", "", "context_frames is None"),
        ("told = ", "told = 1 / 0  # ", "predict_next: ZeroDivisionError"),
        ("return told, told * 0", "return None", "predict_next: TypeError"),
        ("told, told * 0", "told, told[0]", r"predict_next gave \(2, 16, 16\) and \(16, 16\)"),
        ("told, told * 0", "told * np.nan, told", "predict_next gave values that are not finite"),
        ("told, told * 0", "told, told - np.inf", "predict_next gave values that are not finite"),
    ],
)  # fmt: skip
def test_what_it_does_wrong_is_called_its_own(install, broken: str, instead: str, complaint: str) -> None:
    assert broken in SOUND
    install("clumsy", "1.2", {"clumsy": SOUND.replace(broken, instead)}, {plugins.MODELS: {"clumsy": "clumsy"}})
    with pytest.raises(PluginFailed, match=f"plug-in clumsy of clumsy 1.2.*{complaint}"):
        fitted("clumsy").predict_next(VALUES[:, :2])


def test_a_name_that_nobody_or_more_than_one_brings_is_refused(install, example) -> None:
    with pytest.raises(UnknownName, match=r"brings 'nobodys' .* there are: damped_waves"):
        plugins.load(plugins.MODELS, "nobodys")
    install("twin", "1", {"twin": SOUND}, {plugins.MODELS: {"damped_waves": "twin"}})
    with pytest.raises(PluginFailed, match=r"damped-waves 0\.1 and twin 1 both bring 'damped_waves'"):
        plugins.load(plugins.MODELS, "damped_waves")


def test_a_model_of_another_version_and_a_file_that_is_none_are_refused(install) -> None:
    entry = {plugins.MODELS: {"calm": "calm"}}
    install("calm", "1", {"calm": SOUND}, entry)
    data = foreign_bytes(fitted("calm"))
    with pytest.raises(InvalidFile, match="nvp-foreign-1"):
        load_model(data)
    with pytest.raises(InvalidFile):
        load_foreign(data[:100])
    elsewhere = dataclasses.replace(fitted("calm"), plugin=plugins.Plugin("calm", "calm 2", None))
    with pytest.raises(InvalidInput, match="the model is of calm 2, installed is calm 1; install that, or train anew"):
        load_foreign(foreign_bytes(elsewhere))


def test_it_is_evaluated_beside_the_trivial_forecasters_as_our_models_are(example, tmp_path, capsys) -> None:
    (tmp_path / "waves.safetensors").write_bytes(foreign_bytes(fitted("damped_waves")))
    np.save(tmp_path / "rain.npy", np.random.default_rng(4).random((3, 5, 16, 16), np.float32))
    options = {
        "models": [str(tmp_path / "waves.safetensors")], "called": ["waves"], "data": str(tmp_path / "rain.npy"),
        "leads": [1, 2], "as_json": True, "trajectories": 3, "frames": 3, "size": 16, "seed": 0,
        **dict.fromkeys(("domain", "variant", "array", "pictures")),
    }  # fmt: skip
    assert local_evaluation.main([json.dumps(options)]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["models"][0]["parameters"] == 2 * 16 * 9 + 16 * 16
    assert {one["name"] for one in found["scores"]} == {found["models"][0]["name"], *NAMES}
