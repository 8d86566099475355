"""A first forecast without a model: NumPy and OpenCV, nothing to load and nothing to compile."""

from __future__ import annotations

from typing import Any

from nvp_agentkit.domains import known_domains
from nvp_agentkit.fields.first_forecast import trivial_forecast

from ..call import Arrays, Call


def forecast(call: Call) -> tuple[dict[str, Any], Arrays]:
    """``params``: name (None: the best); arrays: frames (K, H, W), oldest first. Returns the forecaster's name.

    Raises:
        UnknownModel: no trivial forecaster of that name.
    """
    told = trivial_forecast(call.arrays[0], call.params["name"])
    return {"name": told.name}, [told.mean, told.log_var]


def simulated(call: Call) -> tuple[dict[str, Any], Arrays]:
    """The domains that can be simulated."""
    return {"domains": known_domains()}, []
