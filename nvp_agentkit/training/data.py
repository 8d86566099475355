"""Sequences as the epoch-wise trainer takes them: energy, its gradients, and windows of both."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, TypedDict

import numpy as np
import numpy.typing as npt

from nvp_agentkit.errors import InvalidField
from nvp_agentkit.fields.sequence import Boundary, Floats, SequenceSet, check_grid
from nvp_agentkit.model.layers import gradients as slopes_of


class TrainingData(NamedTuple):
    """``energy`` (N, T, H, W) in its own unit; ``gradients`` (N, T, H, W, 2), (dE/dx, dE/dy) per cell."""

    energy: Floats
    gradients: Floats


class WindowBatch(TypedDict):
    """``energy_t`` (B, H, W, K), oldest frame first; the others, gradients of the newest frame, (B, H, W, 1)."""

    energy_t: Floats
    grad_x: Floats
    grad_y: Floats
    energy_next: Floats


def prepare_training_data(
    sequences: SequenceSet | Sequence[npt.ArrayLike] | npt.ArrayLike,
    boundary: tuple[Boundary, Boundary] | None = None,
) -> TrainingData:
    """Sequences of one length and grid, with the gradients that the network is shown.

    Args:
        sequences: a set, or maps (T, H, W) each.
        boundary: what lies beyond the edge, (y, x); None: what the set says, periodic where it is no set.

    Raises:
        InvalidField: shapes that differ or are too small, values that are not finite, cells without a value.
    """
    if isinstance(sequences, SequenceSet):
        if sequences.mask is not None:
            raise InvalidField(
                "these fields have cells without a value, and this trainer needs all; an ensemble leaves them out: "
                "`nvp demo --data FILE`, or training.MemberTrainer in Python"
            )
        values, boundary = sequences.values, boundary or sequences.meta.boundary
    else:
        values = _stacked(sequences)
    check_grid(values.shape, 4, "sequences")
    if not np.isfinite(values).all():
        raise InvalidField("sequences hold values that are not finite; fill or leave out those frames")
    energy = np.asarray(values, np.float32)
    maps = energy.reshape(-1, *energy.shape[2:], 1)
    both = np.concatenate(slopes_of(maps, boundary or ("periodic", "periodic")), -1)  # type: ignore[arg-type]
    return TrainingData(energy, both.reshape(*energy.shape, 2))


def _stacked(sequences: Sequence[npt.ArrayLike] | npt.ArrayLike) -> Floats:
    try:
        return np.asarray(sequences, np.float32)
    except (TypeError, ValueError) as error:
        raise InvalidField(f"sequences are no arrays of one shape ({error}); give (N, T, H, W)") from error


def hold_back(data: TrainingData, share: float) -> tuple[TrainingData, TrainingData]:
    """All but the last sequences, and ``share`` of them, at least one; `InvalidField` where none would be left."""
    sequences = len(data.energy)
    held = max(1, round(share * sequences))
    if held >= sequences:
        raise InvalidField(
            f"{sequences} sequence(s), of which validation_split {share} holds {held} back: none is left to train on; "
            "bring more, give val_data, or set validation_split to 0"
        )
    parts = (slice(None, -held), slice(-held, None))
    first, last = (TrainingData(data.energy[part], data.gradients[part]) for part in parts)
    return first, last


def require_usable(train: TrainingData, val: TrainingData | None, context: int) -> None:
    """Raises `InvalidField` where one of them has no window, values that are not finite or another grid."""
    for name, part in (("training", train), ("validation", val)):
        if part is None:
            continue
        if not windows_of(part.energy, context):
            raise InvalidField(f"{name} data hold no sequence; give at least one")
        if not all(np.isfinite(values).all() for values in part):
            raise InvalidField(f"{name} data hold values that are not finite; prepare_training_data refuses them")
        if part.energy.shape[2:] != train.energy.shape[2:]:
            raise InvalidField(
                f"validation fields are {part.energy.shape[2:]} cells, training {train.energy.shape[2:]}"
            )


def windows_of(energy: Floats, context: int) -> int:
    """How many windows of ``context`` frames and the one that came; `InvalidField` where there is none."""
    if energy.ndim != 4 or energy.shape[1] <= context:
        raise InvalidField(f"sequences {energy.shape}; a context of {context} needs at least {context + 1} frames each")
    return int(energy.shape[0] * (energy.shape[1] - context))


def cut(energy: Floats, gradients: Floats, indices: npt.ArrayLike, context: int) -> WindowBatch:
    """The windows of these numbers; number ``n (T - context) + t`` begins at frame t of sequence n."""
    if gradients.shape != (*energy.shape, 2):
        raise InvalidField(f"gradients are {gradients.shape}, energy {energy.shape}; give {(*energy.shape, 2)}")
    count, numbers = windows_of(energy, context), np.asarray(indices)
    if numbers.ndim != 1 or not numbers.size or numbers.min() < 0 or numbers.max() >= count:
        raise InvalidField(f"indices {numbers.tolist()!s:.60}; give whole numbers from 0 to {count - 1}")
    sequence, start = np.divmod(numbers, energy.shape[1] - context)
    newest = start + context - 1
    slopes = gradients[sequence, newest]
    return WindowBatch(
        energy_t=np.stack([energy[sequence, start + frame] for frame in range(context)], -1),
        grad_x=slopes[..., :1],
        grad_y=slopes[..., 1:],
        energy_next=energy[sequence, newest + 1, ..., None],
    )
