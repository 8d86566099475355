"""A model as one safetensors file: weights as tensors, all else as canonical JSON in its metadata.

Nothing is unpickled. Names, shapes and dtypes must be the configuration's, so a file of another
architecture, a truncated or a hostile one is refused before its weights are used. Equal models give equal
bytes, and the model's id is the digest of those bytes.
"""

from __future__ import annotations

import hashlib
import json
import os
import tempfile
from dataclasses import astuple, replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load, save

from nvp_agentkit.errors import InvalidFile, InvalidInput
from nvp_agentkit.model.bundle import LEVELS, WAVENUMBERS, Calibration, Coherence, ModelBundle, Normalization
from nvp_agentkit.model.config import NVPConfig
from nvp_agentkit.model.novelty import DESCRIPTORS, Novelty
from nvp_agentkit.model.state import flatten, shapes, unflatten

FORMAT = "nvp-model-1"
LARGEST_FILE = 4 * 2**30  # the founding document's own network is half of it
LARGEST_HEADER = 4 * 2**20


def model_bytes(bundle: ModelBundle) -> bytes:
    """The model as bytes; equal for equal models.

    Raises:
        InvalidInput: more than `load_model` would read.
    """
    about = {
        "format": FORMAT,
        "config": bundle.config.to_json(),
        "normalization": [bundle.normalization.offset, bundle.normalization.scale],
        "range": [bundle.normalization.low, bundle.normalization.high],
        "calibration": plain_calibration(bundle.calibration),
        "later": [[lead, *plain_calibration(one)] for lead, one in sorted(bundle.calibration.later.items())],
        "novelty": None if bundle.novelty is None else [part.tolist() for part in astuple(bundle.novelty)],
        "coherence": None if bundle.coherence is None else list(astuple(bundle.coherence)),
        "domain": bundle.domain,
        "recipe": dict(bundle.recipe),
        "metrics": dict(bundle.metrics),
    }
    if bundle.beside:
        about["beside"] = [[one.offset, one.scale] for one in bundle.beside]
    flat = flatten(bundle.variables)
    tensors = {name: np.asarray(leaf, np.float32, order="C") for name, leaf in flat.items()}
    text = json.dumps(about, sort_keys=True, separators=(",", ":"), allow_nan=False)
    size = 8 + LARGEST_HEADER + sum(array.nbytes for array in tensors.values())
    if size > LARGEST_FILE:
        raise InvalidInput(
            f"a model of {size / 2**20:,.0f} MiB; a model file may have {LARGEST_FILE / 2**20:,.0f}: give it fewer "
            "channels, or keep it as a checkpoint"
        )
    return bytes(save(tensors, metadata={"nvp": text}))


def model_id(data: bytes) -> str:
    """``model:sha256:...`` of the model's bytes."""
    return "model:sha256:" + hashlib.sha256(data).hexdigest()


def save_model(bundle: ModelBundle, path: str | Path) -> str:
    """Write the model whole or not at all (temporary file, fsync, rename); its id."""
    data, path = model_bytes(bundle), Path(path)
    write_atomically(path, data)
    return model_id(data)


def load_model(source: bytes | str | Path) -> ModelBundle:
    """The model that `save_model` or `model_bytes` wrote.

    Raises:
        InvalidFile: missing, truncated, foreign, of another architecture, too large, or not finite.
    """
    data = source if isinstance(source, bytes) else read_bounded(Path(source))
    about, tensors = parse(data, key="nvp")
    try:
        if about["format"] != FORMAT:
            raise InvalidFile(f"a model file of format {about['format']!r}; this version reads {FORMAT!r}")
        config = NVPConfig.from_json(about["config"])
        offset, spread = about["normalization"]
        bundle = ModelBundle(
            config=config,
            variables=as_variables(tensors, config),
            normalization=Normalization(_finite(offset), _finite(spread), *_range(about.get("range"))),
            calibration=replace(
                calibration_of(*about["calibration"]),
                later={_lead(lead): calibration_of(*one) for lead, *one in about.get("later", [])},
            ),
            novelty=_novelty(about.get("novelty")),
            coherence=_coherence(about.get("coherence")),
            domain=str(about["domain"]),
            recipe=dict(about["recipe"]),
            metrics={str(name): float(value) for name, value in about["metrics"].items()},
            beside=tuple(Normalization(_finite(offset), _finite(scale)) for offset, scale in about.get("beside", [])),
        )
    except (KeyError, TypeError, AttributeError, InvalidInput, ValueError) as error:
        raise error if isinstance(error, InvalidFile) else InvalidFile(f"not a usable model file: {error}") from error
    calibrations = (bundle.calibration, *bundle.calibration.later.values())
    scales = [one.scale for one in (bundle.normalization, *bundle.beside)] + [one.scale for one in calibrations]
    if any(scale <= 0 for scale in scales):
        raise InvalidFile("not a usable model file: a scale that is not positive")
    return bundle


def as_variables(tensors: dict[str, Any], config: NVPConfig) -> dict[str, Any]:
    """Tensors as the network's variables, each checked against the configuration."""
    wanted = shapes(config)
    if tensors.keys() != wanted.keys():
        odd = sorted(tensors.keys() ^ wanted.keys())[:3]
        raise InvalidFile(f"weights of another architecture than the file's configuration ({', '.join(odd)})")
    for name, array in tensors.items():
        if array.shape != wanted[name] or array.dtype != np.float32:
            raise InvalidFile(f"weight {name} is {array.dtype}{array.shape}; the network has {wanted[name]}")
        if not np.isfinite(array).all():
            raise InvalidFile(f"weight {name} holds values that are not finite")
    return unflatten({name: jnp.asarray(array) for name, array in tensors.items()})


def read_bounded(path: Path, largest: int = LARGEST_FILE) -> bytes:
    """The file's bytes; `InvalidFile` where it is missing or larger than what it should hold may be."""
    try:
        if (size := path.stat().st_size) > largest:
            raise InvalidFile(f"{path.name} has {size} bytes; what it should hold has at most {largest}")
        return path.read_bytes()
    except OSError as error:
        raise InvalidFile(f"{path.name} cannot be read: {error.strerror}") from error


def parse(data: bytes, key: str, largest: int = LARGEST_FILE) -> tuple[dict[str, Any], dict[str, Any]]:
    """(JSON under ``key`` of the metadata, tensors) of safetensors bytes; sizes checked before reading."""
    header = int.from_bytes(data[:8], "little") if len(data) >= 8 else -1
    if not 0 < header <= min(LARGEST_HEADER, len(data) - 8) or len(data) > largest:
        raise InvalidFile("not a safetensors file, truncated, or its header is too large")
    try:
        names = json.loads(data[8 : 8 + header])
        return json.loads(names["__metadata__"][key]), load(data)
    except (SafetensorError, KeyError, TypeError, ValueError, RecursionError) as error:
        raise InvalidFile(f"not a file of this package: {type(error).__name__}: {error}") from error


def write_atomically(path: Path, data: bytes) -> None:
    """``data`` at ``path``, or what was there before: never half of it, also after a power cut."""
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        Path(temporary).replace(path)
    finally:
        Path(temporary).unlink(missing_ok=True)


def plain_calibration(calibration: Calibration) -> list[Any]:
    """That of one lead as plain JSON values."""
    widths, knots = [calibration.width[level] for level in LEVELS], [list(knot) for knot in calibration.bend]
    return [calibration.scale, widths, knots, calibration.kept]


def calibration_of(scale: Any, widths: Any, bend: Any = (), kept: Any = 1.0) -> Calibration:
    """What `plain_calibration` gave; older files have no ``bend`` and nothing of what is ``kept``."""
    width = {level: _finite(one) for level, one in zip(LEVELS, widths, strict=True)}
    knots = tuple((_finite(log_sigma), _finite(factor)) for log_sigma, factor in bend)
    if any(one >= after for (one, _), (after, _) in pairwise(knots)):
        raise InvalidFile("not a usable model file: its calibration's knots do not ascend")
    if not 0 <= _finite(kept) <= 1:
        raise InvalidFile(f"not a usable model file: its calibration keeps {kept}, not 0 to 1")
    return Calibration(_finite(scale), width, knots, _finite(kept))


def _lead(value: Any) -> int:
    if not isinstance(value, int) or value < 2:
        raise InvalidFile(f"{value!r} stands where a lead of at least 2 should")
    return value


def _range(stored: Any) -> tuple[float | None, float | None]:
    """Of the training data; models of before it was stored have none."""
    low, high = stored or (None, None)
    return (None, None) if low is None or high is None else (_finite(low), _finite(high))


def _novelty(stored: Any) -> Novelty | None:
    if stored is None:
        return None
    centre, whitening, distances = (np.array(part, np.float64) for part in stored)
    shapes_fit = (centre.shape, whitening.shape, distances.ndim) == ((DESCRIPTORS,), (DESCRIPTORS, DESCRIPTORS), 1)
    if not shapes_fit or not all(np.isfinite(part).all() for part in (centre, whitening, distances)):
        raise InvalidFile(f"not a usable model file: novelty is not of {DESCRIPTORS} descriptors, or not finite")
    return Novelty(centre, whitening, np.sort(distances))


def _coherence(stored: Any) -> Coherence | None:
    """Models of before it was stored have none."""
    if stored is None:
        return None
    gain, stretch, powers = stored
    found = Coherence(_finite(gain), _finite(stretch), tuple(_finite(power) for power in powers))
    right = len(found.spectrum) == len(WAVENUMBERS) and min(found.spectrum) >= 0 < max(found.spectrum)
    if not right or found.gain <= 0:
        raise InvalidFile(f"not a usable model file: coherence is not of {len(WAVENUMBERS)} powers, or not positive")
    return found


def _finite(value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not np.isfinite(value):
        raise InvalidFile(f"{value!r} stands where a finite number should")
    return float(value)
