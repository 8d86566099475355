"""What a network is: every choice that changes its numbers, frozen, serialised one way, hashed."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Literal, Self, get_args

from nvp_agentkit.errors import InvalidInput
from nvp_agentkit.fields.sequence import Boundary, Conservation

BOUNDARIES: tuple[Boundary, ...] = get_args(Boundary)
Norm = Literal["none", "group", "batch"]
NORMS: tuple[Norm, ...] = ("none", "group", "batch")
Precision = Literal["float32", "bfloat16"]
PRECISIONS: tuple[Precision, ...] = ("float32", "bfloat16")
LARGEST_LEVELS = 6
LARGEST_FEATURES = 1024
LARGEST_CONTEXT = 8
LARGEST_STEM = 8
LARGEST_BESIDE = 32
LARGEST_DOCUMENT_SIDE = 1024


@dataclass(frozen=True)
class NVPConfig:
    """The network's shape. The default is the best per joule that was measured on fields of 128 cells a side and more.

    What smaller or fewer ones are better served by: `training.members.network_on`.

    Args:
        latent_dim: channels that the two paths (energy, gradients) are fused to on the coarsest grid.
        encoder_features: channels of each level, finest first; every level after the first halves the grid.
        decoder_features: channels on the way up, coarsest first; default: the encoder's, reversed.
        dropout_rate: share of the latent channels' values dropped while training.
        context_frames: frames the network sees (K); fewer given means that the oldest is repeated.
        stem: side of the blocks that space-to-depth folds into channels at the door.
        boundary: (y, x), what lies beyond the edge; decides padding and where the warp looks.
        positive: the field cannot be negative; predictions are clipped at zero.
        conservation: what becomes of the field's total, which every forecast then obeys (`model.conservation`).
        masked: frames have cells without a value; one channel a frame says where values are.
        beside: names of further maps that are shown with the newest frame: other fields, or numbers that hold all over
            a map, such as the time between frames (`model.beside`).
        use_residual: blocks add their input to what they compute.
        norm: what blocks normalise by; ``batch`` keeps running averages, the collection ``batch_stats``, beside the
            weights. None measured best (`docs/decisions/023-no-norm-by-default.md`).
        pyramid: every coarser level sees the inputs as well, averaged down to its grid.
        precision: what the trunk computes in, between the stem and the heads; weights, heads and warps are float32.
        document_grid: (H, W) of the one field size that the founding document's own network is built for
            (`documented`); None: the network that takes any.

    Raises:
        InvalidInput: a value outside its range, named.
    """

    latent_dim: int = 96
    encoder_features: tuple[int, ...] = (32, 64)
    decoder_features: tuple[int, ...] | None = None
    dropout_rate: float = 0.0
    context_frames: int = 2
    stem: int = 4
    boundary: tuple[Boundary, Boundary] = ("periodic", "periodic")
    positive: bool = True
    conservation: Conservation = "open"
    masked: bool = False
    beside: tuple[str, ...] = ()
    use_residual: bool = True
    norm: Norm = "none"
    pyramid: bool = False
    precision: Precision = "float32"
    document_grid: tuple[int, int] | None = None

    def __post_init__(self) -> None:
        for name in ("encoder_features", "decoder_features", "boundary", "beside", "document_grid"):
            if (value := getattr(self, name)) is not None:
                object.__setattr__(self, name, _several(name, value))
        levels = len(self.encoder_features)
        if not 1 <= levels <= LARGEST_LEVELS:
            raise InvalidInput(f"encoder_features has {levels} levels; give 1 to {LARGEST_LEVELS}")
        if self.decoder_features is not None and len(self.decoder_features) != levels:
            raise InvalidInput(f"decoder_features has {len(self.decoder_features)} levels, encoder_features {levels}")
        for width in self.encoder_features:
            whole("encoder_features", width, 1, LARGEST_FEATURES)
        for width in self.decoder_features or ():
            whole("decoder_features", width, 1, LARGEST_FEATURES)
        whole("latent_dim", self.latent_dim, 1, LARGEST_FEATURES)
        whole("context_frames", self.context_frames, 1, LARGEST_CONTEXT)
        whole("stem", self.stem, 1, LARGEST_STEM)
        if not 0 <= self.dropout_rate < 1:
            raise InvalidInput(f"dropout_rate is {self.dropout_rate}; give a number in [0, 1)")
        if len(self.boundary) != 2 or any(side not in BOUNDARIES for side in self.boundary):
            raise InvalidInput(f"boundary is {self.boundary}; give (y, x) of {', '.join(BOUNDARIES)}")
        self._check_beside()
        if self.norm not in NORMS:
            raise InvalidInput(f"norm is {self.norm!r}; give one of {', '.join(NORMS)}")
        if self.conservation not in get_args(Conservation):
            known = ", ".join(get_args(Conservation))
            raise InvalidInput(f"conservation is {self.conservation!r}; give one of {known}")
        if self.precision not in PRECISIONS:
            raise InvalidInput(f"precision is {self.precision!r}; give one of {', '.join(PRECISIONS)}")
        if self.document_grid is not None:
            self._check_document(self.document_grid)

    def _check_beside(self) -> None:
        if len(self.beside) > LARGEST_BESIDE:
            raise InvalidInput(f"{len(self.beside)} maps beside the field; give at most {LARGEST_BESIDE}")
        for name in self.beside:
            if not isinstance(name, str) or not name or self.beside.count(name) > 1:
                raise InvalidInput(f"beside is {self.beside}; give names, each once")

    def _check_document(self, grid: tuple[int, int]) -> None:
        unit = 2 ** len(self.encoder_features)
        if len(grid) != 2 or any(side % unit or not unit <= side <= LARGEST_DOCUMENT_SIDE for side in grid):
            raise InvalidInput(
                f"document_grid is {grid}; {len(self.encoder_features)} levels take multiples of {unit} "
                f"up to {LARGEST_DOCUMENT_SIDE}"
            )
        if self.context_frames != 1 or self.masked or self.beside or self.pyramid or self.precision != "float32":
            raise InvalidInput(
                "the document's network sees one whole frame in float32: context_frames 1, not masked, nothing beside "
                "it, no pyramid"
            )
        if self.conservation != "open":
            raise InvalidInput(f"conservation is {self.conservation!r}; the document's network keeps no total: 'open'")

    @classmethod
    def documented(cls, grid: tuple[int, int] = (256, 256), **changes: Any) -> Self:
        """The founding document's network as its text has it (`model.documented`); 546.3 M parameters at 256x256.

        ``changes`` are fields of the configuration; by itself it is session S2's Example 1 with batch normalisation.
        """
        written: dict[str, Any] = {
            "latent_dim": 512,
            "encoder_features": (64, 128, 256),
            "decoder_features": (256, 128, 64),
            "dropout_rate": 0.1,
            "context_frames": 1,
            "positive": False,
            "norm": "batch",
            "document_grid": grid,
        }
        return cls(**written | changes)

    def to_dict(self) -> dict[str, Any]:
        """Plain values. Who is shown nothing beside the field is written as before that could be."""
        plain = dataclasses.asdict(self)
        if not self.beside:
            del plain["beside"]
        return plain

    def to_json(self) -> str:
        """Canonical: sorted keys, no blanks; equal configurations give equal text."""
        return json.dumps(self.to_dict(), sort_keys=True, separators=(",", ":"))

    @classmethod
    def from_json(cls, text: str) -> Self:
        """The configuration that `to_json` wrote. Raises `InvalidInput` on anything else."""
        try:
            values: dict[str, Any] = json.loads(text)
            return cls(**values)
        except (TypeError, ValueError) as error:
            raise InvalidInput(f"not a network configuration: {error}") from error

    @property
    def digest(self) -> str:
        return "sha256:" + hashlib.sha256(self.to_json().encode()).hexdigest()


def whole(name: str, value: Any, least: int, most: float = math.inf) -> None:
    """Raises `InvalidInput` unless ``value`` is a whole number in that range."""
    if isinstance(value, bool) or not isinstance(value, int) or not least <= value <= most:
        allowed = f"of at least {least}" if most == math.inf else f"from {least} to {most:.0f}"
        raise InvalidInput(f"{name} is {value!r}; give a whole number {allowed}")


def _several(name: str, values: Any) -> tuple[Any, ...]:
    if isinstance(values, str) or not isinstance(values, Iterable):
        raise InvalidInput(f"{name} is {values!r}; give a tuple")
    return tuple(values)
