"""The founding document's network with weights that are quick to make: 546 million draws would take a minute."""

from __future__ import annotations

import math
from typing import Any

import jax.numpy as jnp
import numpy as np

from nvp_agentkit.model import NVPConfig
from nvp_agentkit.model.state import shapes, unflatten

DRAWN = 65521  # a prime, so that rows of a kernel differ


def documented(side: int) -> tuple[NVPConfig, Any]:
    """For fields of ``side`` cells squared: kernels of LeCun's spread, scales and variances one, the rest zero.

    Constant weights would not do: what they compute is subnormal, and that is slow.
    """
    config = NVPConfig.documented((side, side))
    noise = np.random.default_rng(0).standard_normal(DRAWN, np.float32)
    drawn = {}
    for path, shape in shapes(config).items():
        if path.endswith("kernel"):
            drawn[path] = jnp.asarray(np.resize(noise / np.float32(math.sqrt(math.prod(shape[:-1]))), shape))
        else:
            drawn[path] = jnp.full(shape, path.endswith(("/scale", "/var")), jnp.float32)
    return config, unflatten(drawn)
