"""Shared memory between front and child: arrays go by it, so a pair of 256x256 fields costs no pipe."""

from __future__ import annotations

import math
import mmap
import os
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nvp_agentkit.errors import InvalidField

ALIGNMENT = 64  # bytes; a cache line, and what XLA wants of a host buffer
DTYPES = {"float32": np.float32, "float16": np.float16, "uint8": np.uint8}


@dataclass(frozen=True)
class Arena:
    """One anonymous file mapped by two processes: the lower half carries calls, the upper half answers.

    The pages exist once touched, so a large size costs nothing until a large array comes.
    """

    fd: int
    size: int
    memory: mmap.mmap

    @classmethod
    def create(cls, size: int) -> Arena:
        if hasattr(os, "memfd_create"):  # not /dev/shm, which is 64 MB in a container
            fd = os.memfd_create("nvp-arena")
        else:
            with tempfile.TemporaryFile() as file:
                fd = os.dup(file.fileno())
        os.ftruncate(fd, size)
        return cls.attach(fd, size)

    @classmethod
    def attach(cls, fd: int, size: int) -> Arena:
        return cls(fd, size, mmap.mmap(fd, size))

    def put(self, arrays: Sequence[NDArray[Any]], *, upper: bool) -> list[dict[str, Any]]:
        """Copy arrays in; returns where each lies, for `take`.

        Raises:
            InvalidField: they do not fit the half they are meant for.
        """
        half = self.size // 2
        offset = half if upper else 0
        limit = offset + half
        places = []
        for array in arrays:
            source = np.ascontiguousarray(array)
            if offset + source.nbytes > limit:
                raise InvalidField(f"arrays of more than {half} bytes in one call; send fewer or smaller ones")
            self._view(offset, source.shape, source.dtype)[...] = source
            places.append({"offset": offset, "shape": list(source.shape), "dtype": source.dtype.name})
            offset += -(-source.nbytes // ALIGNMENT) * ALIGNMENT
        return places

    def take(self, places: Sequence[dict[str, Any]]) -> list[NDArray[Any]]:
        """Copies of the arrays that `put` placed."""
        return [
            self._view(place["offset"], tuple(place["shape"]), np.dtype(DTYPES[place["dtype"]])).copy()
            for place in places
        ]

    def close(self) -> None:
        self.memory.close()
        os.close(self.fd)

    def _view(self, offset: int, shape: tuple[int, ...], dtype: np.dtype[Any]) -> NDArray[Any]:
        return np.frombuffer(self.memory, dtype, math.prod(shape), offset).reshape(shape)
