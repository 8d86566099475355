"""A request as a use case reads it: its payload by type, its field checked and in memory."""

from __future__ import annotations

from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from nvp_agentkit.ensemble import EnsembleRecord
from nvp_agentkit.errors import InvalidField, InvalidMessage
from nvp_agentkit.messages import Payload, PredictionRequested
from nvp_agentkit.messages.checks import check_field, check_shape
from nvp_agentkit.messages.values import MAX_UNITS
from nvp_agentkit.streams.delivery import Delivery

from .system import System

UNSAID = "1"  # units of a field of which nothing was said

P = TypeVar("P", bound=Payload)


def body(delivery: Delivery, kind: type[P]) -> P:
    """The payload, which the consumer has already found to be a ``kind``."""
    payload = delivery.payload
    if not isinstance(payload, kind):
        raise InvalidMessage(f"{delivery.event.type} is no {kind.__name__}")
    return payload


async def field_of(request: PredictionRequested, system: System) -> NDArray[np.float32]:
    """The request's frames, (K, H, W) float32, oldest first, every value finite.

    Raises:
        InvalidField: shape, size, NaN or Inf; the shape is looked at before a byte is read.
        DigestMismatch, UnknownName: the bytes are others, or gone.
    """
    limit = system.settings.max_cells
    check_shape(request.field.shape, max_cells=limit)
    frames = check_field(await system.artifacts.get_array(request.field, limit), max_cells=limit)
    return frames if frames.ndim == 3 else frames[None]


def units_of(request: PredictionRequested, record: EnsembleRecord | None) -> str:
    """The unit of field and forecast. A field that names none (``1``) is in the one that the ensemble learnt, if any.

    Raises:
        InvalidField: it is in another one.
    """
    said = request.field.units
    if record is None or record.rule is None:
        return said
    learnt = record.rule.units
    if said not in (UNSAID, learnt):
        raise InvalidField(
            f"field in {said!r}, and the ensemble of {record.domain} learnt it in {learnt!r}; "
            "convert it, or leave `units` away if it is in that"
        )
    return learnt


def log_variance_units(units: str) -> str:
    """Of the log-variance of a field in ``units``. Where these are too long to stand in it, it refers to them."""
    spelled = f"ln ({units})^2"
    return spelled if len(spelled) <= MAX_UNITS else "ln (units of the mean)^2"
