from __future__ import annotations

import pytest

from nvp_agentkit.errors import InvalidInput
from nvp_agentkit.model import NVPConfig


def test_a_configuration_survives_its_own_text():
    config = NVPConfig(latent_dim=512, encoder_features=[64, 128, 256], decoder_features=[256, 128, 64])
    assert NVPConfig.from_json(config.to_json()) == config
    assert hash(NVPConfig.from_json(config.to_json())) == hash(config)


def test_equal_configurations_have_one_digest_and_others_another():
    assert NVPConfig(encoder_features=[32, 64]).digest == NVPConfig(encoder_features=(32, 64)).digest
    assert NVPConfig(context_frames=1).digest != NVPConfig(context_frames=2).digest


@pytest.mark.parametrize(
    "wrong",
    [
        {"encoder_features": ()},
        {"encoder_features": (0,)},
        {"encoder_features": (32, 64), "decoder_features": (32,)},
        {"latent_dim": 10**9},
        {"context_frames": 0},
        {"context_frames": True},
        {"stem": 64},
        {"dropout_rate": 1.0},
        {"boundary": ("periodic", "round")},
        {"boundary": ("periodic",)},
        {"boundary": "periodic"},
        {"encoder_features": 64},
    ],
)
def test_a_value_out_of_range_is_named(wrong):
    name = next(reversed(wrong))
    with pytest.raises(InvalidInput, match=name):
        NVPConfig(**wrong)


@pytest.mark.parametrize("text", ["", "[]", "{", '{"pickle": 1}', '{"stem": "4"}', '{"encoder_features": 3}'])
def test_foreign_text_is_no_configuration(text):
    with pytest.raises(InvalidInput):
        NVPConfig.from_json(text)
