"""Going on from a trained model: another run, other data, the same network."""

from __future__ import annotations

import dataclasses
from typing import Any

from nvp_agentkit.errors import InvalidInput
from nvp_agentkit.fields.sequence import FieldMeta
from nvp_agentkit.model.bundle import ModelBundle
from nvp_agentkit.model.config import NVPConfig
from nvp_agentkit.model.state import Variables, shapes
from nvp_agentkit.model.storage import model_bytes, model_id
from nvp_agentkit.training.member_config import MemberConfig

OF_THE_DATA = ("boundary", "positive", "precision")  # may differ from a parent's: no weight hangs on them


def network_like(parent: ModelBundle, meta: FieldMeta, *, masked: bool) -> NVPConfig:
    """The parent's network with the boundary and sign of other data."""
    return dataclasses.replace(parent.config, boundary=meta.boundary, positive=meta.positive, masked=masked)


def inherited(config: MemberConfig, parent: ModelBundle) -> Variables:
    """The parent's weights, for a run of ``config``.

    Units are not inherited: they are fitted to the new data, in which the network sees unit spread as it did before.

    Raises:
        InvalidInput: the parent is another network, or of other width within the same shapes; what differs is named.
    """
    require_network(config.model_config, parent)
    own, other = config.features, parent.recipe.get("features")
    if (own or config.model_config.encoder_features) != tuple(other or parent.config.encoder_features):
        raise InvalidInput(f"the parent has features {other}, this recipe {own}: give the parent's")
    return parent.variables


def require_network(network: NVPConfig, parent: ModelBundle) -> None:
    """Raises `InvalidInput` unless the parent's weights are weights of ``network``."""
    if dict(shapes(network)) == dict(shapes(parent.config)):
        return
    ours, theirs = dataclasses.asdict(network), dataclasses.asdict(parent.config)
    odd = {name: (theirs[name], ours[name]) for name in ours if ours[name] != theirs[name] and name not in OF_THE_DATA}
    told = ", ".join(f"{name} {parents!r} and not {own!r}" for name, (parents, own) in odd.items())
    raise InvalidInput(f"the parent is another network: {told}; go on with its own, or train without a parent")


def descent(parent: ModelBundle | None) -> dict[str, Any]:
    """What a child's recipe says of its parent: the id, which is the digest of the parent's bytes."""
    return {} if parent is None else {"parent": model_id(model_bytes(parent))}
