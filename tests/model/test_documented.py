"""The founding document's network is built as its text has it, and counted."""

from __future__ import annotations

import math
from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from nvp_agentkit.errors import InvalidField, InvalidInput
from nvp_agentkit.model import (
    ModelBundle,
    NVPConfig,
    NVPModel,
    count_parameters,
    create_train_state,
    load_model,
    model_bytes,
    predict_next,
)
from nvp_agentkit.model.state import initial_variables, shapes

SMALL = NVPConfig.documented((16, 16), latent_dim=8, encoder_features=(4, 4), decoder_features=(4, 4))


def conv(inside: int, out: int, side: int = 3) -> int:
    return side * side * inside * out + out


def encoder(channels: int) -> int:
    total = 0
    for before, width in zip((channels, 64, 128), (64, 128, 256), strict=True):
        total += conv(before, width) + 2 * conv(width, width) + 3 * 2 * width  # scale and bias of three norms
    return total


def decoder() -> int:
    total = 512 * 262_144 + 262_144
    for before, width in zip((256, 256, 128), (256, 128, 64), strict=True):
        total += conv(before, width) + 2 * conv(width, width) + 3 * 2 * width
    return total + conv(64, 1, side=1)


def test_written_out_the_document_s_network_has_546_million_parameters():
    variables = jax.eval_shape(
        NVPModel(NVPConfig.documented()).init, np.zeros(2, np.uint32), jnp.zeros((1, 256, 256, 1))
    )
    by_hand = encoder(1) + encoder(2) + 524_288 * 512 + 512 + 2 * decoder()
    assert count_parameters(variables) == by_hand == 546_261_058


def test_its_topology_is_the_text_s():
    made = shapes(NVPConfig.documented())
    assert made["params/documented/fusion/kernel"] == (2 * 32 * 32 * 256, 512)
    for head in ("mean_decoder", "log_var_decoder"):
        assert made[f"params/documented/{head}/Dense_0/kernel"] == (512, 32 * 32 * 256)
        assert made[f"params/documented/{head}/Conv_0/kernel"] == (1, 1, 64, 1)


def test_it_forecasts_is_stored_and_forecasts_the_same():
    bundle = ModelBundle(SMALL, initial_variables(SMALL, 0))
    frames = np.random.default_rng(0).random((2, 1, 16, 16), np.float32)
    mean, log_var = predict_next(bundle, frames)
    assert mean.shape == log_var.shape == (2, 16, 16)
    assert np.std(mean) > 0
    np.testing.assert_array_equal(predict_next(load_model(model_bytes(bundle)), frames), (mean, log_var))


def test_it_takes_the_grid_it_was_built_for_and_no_other():
    with pytest.raises(InvalidField, match=r"built for \(16, 16\)"):
        NVPModel(SMALL).apply(initial_variables(SMALL, 0), jnp.zeros((1, 32, 16, 1)))
    with pytest.raises(InvalidInput, match=r"built for \(16, 16\)"):
        create_train_state(jax.random.key(0), SMALL, 1e-4, input_shape=(32, 32))


@pytest.mark.parametrize(
    "wrong", [{"grid": (20, 16)}, {"grid": (4096, 4096)}, {"context_frames": 2}, {"masked": True}, {"norm": "layer"}]
)
def test_what_the_text_has_no_place_for_is_refused(wrong):
    with pytest.raises(InvalidInput, match=r"context_frames|document_grid|norm"):
        NVPConfig.documented(**wrong)


def test_the_document_s_widths_also_build_the_default_topology():
    config = NVPConfig(latent_dim=512, encoder_features=[64, 128, 256], decoder_features=[256, 128, 64])
    count = sum(math.prod(shape) for shape in shapes(config).values())
    assert count < 8_500_000
    assert replace(config, document_grid=None) == config
