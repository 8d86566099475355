"""A forecaster of somebody else's in the place of our network: fitted, stored, served and voted with like one.

An entry point in the group ``nvp_agentkit.models`` leads to a `ForeignForecaster`, an object or simply a module. What
it learnt is arrays by name, which are stored as safetensors; its code is found again by name, package and version.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol, Self

import numpy as np
import numpy.typing as npt
from safetensors.numpy import save

from nvp_agentkit import plugins
from nvp_agentkit.errors import InvalidFile, InvalidInput
from nvp_agentkit.fields.sequence import SequenceSet
from nvp_agentkit.model.bundle import Calibration, Floats
from nvp_agentkit.model.config import LARGEST_CONTEXT
from nvp_agentkit.model.predict import Mask, checked
from nvp_agentkit.model.storage import LARGEST_FILE, calibration_of, parse, plain_calibration

FORMAT = "nvp-foreign-1"

Learnt = Mapping[str, npt.NDArray[Any]]


class ForeignForecaster(Protocol):
    """What an entry point leads to.

    ``context_frames`` (1 to 8): how many frames it looks at. ``fit`` learns from sequences and gives all that
    ``predict_next`` needs, as arrays by name. ``predict_next`` takes that, frames (B, K, H, W) in the field's unit,
    oldest first, 0 where there is no value, and a mask of that shape (True where there is one). It gives mean and
    log-variance, (B, H, W) each.
    """

    context_frames: int

    def fit(self, train: SequenceSet, *, seed: int) -> Learnt: ...

    def predict_next(self, learnt: Learnt, frames: Floats, mask: Mask) -> tuple[npt.ArrayLike, npt.ArrayLike]: ...


@dataclass(frozen=True)
class ForeignModel:
    """A plug-in with what it has learnt, as a `fields.forecasters.Forecaster` that is calibrated."""

    plugin: plugins.Plugin
    learnt: Learnt
    domain: str
    seed: int
    calibration: Calibration = field(default_factory=Calibration)
    called: str | None = None

    @classmethod
    def fitted(cls, plugin: plugins.Plugin, train: SequenceSet, seed: int) -> Self:
        """What ``plugin`` learns from ``train``.

        Raises:
            PluginFailed: it fails, or gives anything but arrays by name.
        """
        with plugin.doing("fit"):
            learnt = {str(name): np.asarray(array) for name, array in dict(plugin.thing.fit(train, seed=seed)).items()}
        odd = [name for name, array in learnt.items() if array.dtype.kind not in "fiub"]
        if odd:
            raise plugin.failed(f"fit gave {odd[0]!r}, which is no array of numbers")
        if sum(array.nbytes for array in learnt.values()) > LARGEST_FILE // 2:
            raise plugin.failed(f"fit gave more than {LARGEST_FILE // 2**21} MiB")
        return cls(plugin, learnt, train.meta.domain, seed)

    @property
    def name(self) -> str:
        return self.called or self.plugin.name

    @property
    def context_frames(self) -> int:
        count = getattr(self.plugin.thing, "context_frames", None)
        if isinstance(count, bool) or not isinstance(count, int) or not 1 <= count <= LARGEST_CONTEXT:
            raise self.plugin.failed(f"context_frames is {count!r}, not a whole number from 1 to {LARGEST_CONTEXT}")
        return count

    @property
    def parameters(self) -> int:
        """Numbers learnt."""
        return sum(array.size for array in self.learnt.values())

    def predict_next(self, frames: npt.ArrayLike, mask: Mask | None = None) -> tuple[Floats, Floats]:
        """See `fields.forecasters.Forecaster`.

        Raises:
            PluginFailed: it fails, or gives other shapes or values that are not finite.
        """
        values, valid = checked(frames, mask)
        values, valid = _newest(values, self.context_frames), _newest(valid, self.context_frames)
        with self.plugin.doing("predict_next"):
            told = self.plugin.thing.predict_next(self.learnt, np.where(valid, values, np.float32(0)), valid)
            mean, log_var = (np.asarray(one, np.float32) for one in told)
        wanted = (len(values), *values.shape[2:])
        if mean.shape != wanted or log_var.shape != wanted:
            raise self.plugin.failed(f"predict_next gave {mean.shape} and {log_var.shape}, not {wanted} twice")
        if not (np.isfinite(mean).all() and np.isfinite(log_var).all()):
            raise self.plugin.failed("predict_next gave values that are not finite")
        return mean, self.calibration.log_var(log_var)

    def about(self) -> dict[str, Any]:
        """What determined it beside the data, as plain JSON values."""
        return {"plugin": self.plugin.name, "package": self.plugin.package, "seed": self.seed}


def _newest(frames: Any, count: int) -> Any:
    """The newest of (B, K, H, W), and the oldest again where there are too few."""
    missing = max(count - frames.shape[1], 0)
    return np.concatenate([frames[:, :1]] * missing + [frames], 1)[:, -count:]


def foreign_bytes(model: ForeignModel) -> bytes:
    """The model as bytes, equal for equal models; `storage.model_id` names it as any other."""
    calibration = plain_calibration(model.calibration)
    said = model.about() | {"format": FORMAT, "domain": model.domain, "calibration": calibration}
    text = json.dumps(said, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return bytes(save({name: np.ascontiguousarray(one) for name, one in model.learnt.items()}, metadata={"nvp": text}))


def is_foreign(data: bytes) -> bool:
    """Whether these are the bytes of such a model."""
    return bool(parse(data, key="nvp")[0].get("format") == FORMAT)


def load_foreign(data: bytes) -> ForeignModel:
    """The model that `foreign_bytes` wrote.

    Raises:
        InvalidFile: it is none.
        UnknownName, PluginFailed: its plug-in is not installed here, or cannot be imported.
        InvalidInput: it is here in another version, whose numbers may be others.
    """
    said, learnt = parse(data, key="nvp")
    try:
        name, package = said["plugin"], said["package"]
        calibration = calibration_of(*said["calibration"])
        domain, seed = str(said["domain"]), int(said["seed"])
    except (KeyError, TypeError, ValueError) as error:
        raise InvalidFile(f"not a usable file of a foreign model: {error}") from error
    plugin = plugins.load(plugins.MODELS, name)
    if plugin.package != package:
        raise InvalidInput(f"the model is of {package}, installed is {plugin.package}; install that, or train anew")
    return ForeignModel(plugin, learnt, domain, seed, calibration)
