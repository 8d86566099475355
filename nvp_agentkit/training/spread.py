"""Data parallelism: a batch's windows over all devices, weights on each. One device: nothing is touched."""

from __future__ import annotations

import math
from functools import cache
from typing import TypeVar

import jax
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

Tree = TypeVar("Tree")
WINDOWS = "windows"


def over_devices(batch: Tree, size: int) -> Tree:
    """``batch`` with its ``size`` windows, the first axis of each array, divided among the devices."""
    return _placed(batch, size, WINDOWS)


def on_each_device(tree: Tree, size: int) -> Tree:
    """``tree`` whole on every device that sees a part of batches of ``size``."""
    return _placed(tree, size)


def _placed(tree: Tree, size: int, *axes: str) -> Tree:
    mesh = _mesh(size)
    if mesh is None:
        return tree
    how = NamedSharding(mesh, PartitionSpec(*axes))  # type: ignore[no-untyped-call]
    placed: Tree = jax.device_put(tree, how)
    return placed


@cache
def _mesh(size: int) -> Mesh | None:
    """As many devices as divide ``size`` evenly; None where that is one."""
    devices = jax.devices()
    count = math.gcd(size, len(devices))
    return Mesh(np.array(devices[:count]), (WINDOWS,)) if count > 1 else None
