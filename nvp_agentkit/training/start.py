"""The best trivial forecaster that the untrained network can be, found on training data.

Where nothing beats persistence it stays persistence; on a flow it starts as advection plus a share of the
Lagrangian increment. So the first step of training already competes with the baseline it is judged by.
"""

from __future__ import annotations

import math

import numpy as np

from nvp_agentkit.model.config import NVPConfig
from nvp_agentkit.model.predict import forward
from nvp_agentkit.model.state import Variables
from nvp_agentkit.training.examples import Batch


def fitted_start(config: NVPConfig, variables: Variables, batch: Batch) -> Variables:
    """``variables`` with drift 0 or 1 and share the least-squares one in [0, 1], whichever errs least on ``batch``.

    Of the default topology: the document's own network has neither.
    Where no error is a finite number they are left as they are, which is persistence.
    """
    valid = batch.valid if config.masked else None
    best = (math.inf, variables)
    for drift in (0.0, 1.0):
        with_none, with_all = (_set(variables, drift, share) for share in (0.0, 1.0))
        mean, full = (
            np.asarray(forward(config, one, batch.frames, valid, batch.origin, beside=batch.beside))[0]
            for one in (with_none, with_all)
        )
        gain, error = full - mean, batch.target - mean
        share = float(np.sum(batch.weight * gain * error) / max(np.sum(batch.weight * gain**2), 1e-12))
        share = min(max(share, 0.0), 1.0)
        loss = float(np.sum(batch.weight * (error - share * gain) ** 2))
        if loss < best[0]:
            best = (loss, _set(variables, drift, share))
    return best[1]


def _set(variables: Variables, drift: float, share: float) -> Variables:
    return variables | {"params": variables["params"] | {"drift": np.float32(drift), "share": np.float32(share)}}
