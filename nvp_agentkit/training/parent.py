"""Going on from a trained model: another run, other data, the same network."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from nvp_agentkit.errors import InvalidInput
from nvp_agentkit.fields.sequence import FieldMeta
from nvp_agentkit.model.bundle import ModelBundle
from nvp_agentkit.model.config import NVPConfig
from nvp_agentkit.model.starter import FILE, STARTER
from nvp_agentkit.model.state import Variables, shapes
from nvp_agentkit.model.storage import load_model, model_bytes, model_id, read_bounded

# So these may differ from a parent's.
NO_WEIGHT_HANGS_ON = ("boundary", "positive", "conservation", "precision", "dropout_rate")


@dataclass(frozen=True)
class Parent:
    """A model whose weights a run begins with instead of fresh ones; the child's recipe names its id.

    Units are not inherited: they are fitted to the new data, in which the network sees unit spread as it did before.
    """

    bundle: ModelBundle
    model_id: str

    @classmethod
    def of(cls, bundle: ModelBundle) -> Self:
        return cls(bundle, model_id(model_bytes(bundle)))

    @classmethod
    def read(cls, path: str | Path) -> Self:
        """From a model file, or ``starter``: the one of this package. Raises `InvalidFile` as `load_model` does."""
        data = read_bounded(FILE if str(path) == STARTER else Path(path))
        return cls(load_model(data), model_id(data))

    @property
    def features(self) -> tuple[int, ...] | None:
        """`MemberConfig.features` that it was trained with."""
        features = self.bundle.recipe.get("features")
        return None if features is None else tuple(features)

    def network(self, meta: FieldMeta, *, masked: bool) -> NVPConfig:
        """Its network with the boundary, sign and class of conservation of other data.

        Raises:
            InvalidInput: they have cells without a value and its own had none, or the other way round.
        """
        network = dataclasses.replace(
            self.bundle.config,
            boundary=meta.boundary,
            positive=meta.positive,
            conservation=meta.conservation,
            masked=masked,
        )
        self.require(network)
        return network

    def weights_for(self, network: NVPConfig, features: tuple[int, ...] | None = None) -> Variables:
        """Its weights, where they are weights of ``network`` with ``features`` channels.

        Raises:
            InvalidInput: they are not; what differs is named.
        """
        self.require(network)
        if features != self.features:
            raise InvalidInput(
                f"the parent has channels {self.features or 'of the whole network'}, this recipe "
                f"{features or 'of the whole network'}: give the champion of its ensemble (voter-0), or in Python "
                "MemberConfig(features=parent.features)"
            )
        return self.bundle.variables

    def require(self, network: NVPConfig) -> None:
        """Raises `InvalidInput` unless its weights have the shapes of ``network``'s and mean the same in it."""
        ours, theirs = dataclasses.asdict(network), dataclasses.asdict(self.bundle.config)
        odd = [name for name in ours if ours[name] != theirs[name] and name not in NO_WEIGHT_HANGS_ON]
        if not odd and shapes(network) == shapes(self.bundle.config):
            return
        told = ", ".join(f"{name} {theirs[name]!r} and not {ours[name]!r}" for name in odd)
        raise InvalidInput(f"the parent is another network: {told}; go on with its own, or train without a parent")
