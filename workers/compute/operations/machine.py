"""What only the compute child knows of its surroundings."""

from __future__ import annotations

import jax


def environment() -> dict[str, str]:
    """The numerics: versions and device that a result's last bits may hang on."""
    device = jax.devices()[0]
    return {"jax": jax.__version__, "device": f"{device.platform} {device.device_kind}"}
