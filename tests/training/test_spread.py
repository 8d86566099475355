"""Data parallelism: two devices, here two that one processor pretends to be, learn what one learns."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import numpy as np

from tests.conftest import QUICKLY_COMPILED

from .conftest import COMPILED_IN_CHILDREN
from .on_devices import losses


def test_losses_on_two_devices_are_those_on_one():
    flags = f"{QUICKLY_COMPILED} --xla_force_host_platform_device_count=2"
    environment = os.environ | COMPILED_IN_CHILDREN | {"XLA_FLAGS": flags}
    program = [sys.executable, "-m", "tests.training.on_devices"]
    done = subprocess.run(program, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    two, one = json.loads(done.stdout), losses()
    assert (two["there"], two["devices"], one["devices"]) == (2, 2, 1)
    assert two["uneven"]  # three windows stay on one
    assert two["programs"] == [1, 1]
    np.testing.assert_allclose(two["losses"], one["losses"], rtol=1e-4)
