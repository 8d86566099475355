"""The precision policy: weights in float32, the trunk in what the configuration says."""

from __future__ import annotations

from dataclasses import replace

import jax
import numpy as np
import pytest

from nvp_agentkit.errors import InvalidInput
from nvp_agentkit.model import NVPConfig, NVPModel
from nvp_agentkit.model.state import shapes

from .conftest import SMALL, forward, scrambled

HALF = replace(SMALL, precision="bfloat16", norm="group", pyramid=True)


def test_the_trunk_computes_in_bfloat16_and_the_rest_in_float32(frames):
    variables, shown = scrambled(HALF).variables, frames.transpose(0, 2, 3, 1)
    program = jax.make_jaxpr(NVPModel(HALF).apply)(variables, shown)
    layers = [one for one in program.eqns if one.primitive.name in ("conv_general_dilated", "dot_general")]
    kinds = [{str(array.aval.dtype) for array in one.invars} for one in layers]
    assert kinds == [{"float32"}] * 2 + [{"bfloat16"}] * 15 + [{"float32"}] * 2  # contrast and heads


def test_it_forecasts_as_float32_does_within_what_eight_bits_hold(frames):
    variables, shown = scrambled(HALF).variables, frames.transpose(0, 2, 3, 1)
    full, half = (np.asarray(forward(one)(variables, shown)) for one in (replace(HALF, precision="float32"), HALF))
    assert half.dtype == np.float32
    assert np.abs(half - full).max() > 0
    assert np.sqrt(np.mean((half - full) ** 2)) < 0.02 * full.std()


def test_weights_are_the_same_whatever_computes():
    assert shapes(HALF) == shapes(replace(HALF, precision="float32"))


def test_another_precision_is_refused_by_name():
    with pytest.raises(InvalidInput, match="'float16'; give one of float32, bfloat16"):
        NVPConfig(precision="float16")
    with pytest.raises(InvalidInput, match="float32"):
        NVPConfig.documented((16, 16), precision="bfloat16")
