"""How often a field counts as unfamiliar: one of the domain itself, of another one, or one that was tampered with.

No network takes part: the descriptors of `model.novelty` in the units of the training data, as a model stores them.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator

import numpy as np
import numpy.typing as npt

from benchmarks.cells import Numbers
from nvp_agentkit.domains import DOMAINS
from nvp_agentkit.fields.sequence import Floats, SequenceSet
from nvp_agentkit.fields.split import Split, split
from nvp_agentkit.model import Normalization
from nvp_agentkit.model.novelty import Novelty, descriptors
from nvp_agentkit.model.predict import normalise

TRAJECTORIES, FRAMES, SEED = 8, 21, 5
EVERY = 4  # of another domain's windows
LOUDER = 1.5
ALARM = 1.0  # farther out than every window held out, by `novelty.ROOM`


def shares(size: int) -> Numbers:
    """Mean and least over the domains, and false alarms of each."""
    data = {name: split(domain.simulate(TRAJECTORIES, FRAMES, size, SEED)) for name, domain in DOMAINS.items()}
    units = {name: Normalization.fit(np.asarray(parts.train.values)) for name, parts in data.items()}
    seen: dict[str, list[float]] = defaultdict(list)
    found: Numbers = {}
    for name in data:
        for what, share in _of(name, data, units):
            seen[what].append(share)
        found[f"false_alarms/{name}"] = seen["same_domain"][-1]
    for what, each in seen.items():
        found |= {f"{what}/mean": float(np.mean(each)), f"{what}/least": min(each)}
    return found


def _of(name: str, data: dict[str, Split], units: dict[str, Normalization]) -> Iterator[tuple[str, float]]:
    own, parts = units[name], data[name]
    known = Novelty.fit(_described(_windows(parts.train), own), _described(_windows(parts.validation), own))
    farthest = known.distances[-1]

    def share(frames: Floats) -> float:
        return float(np.mean(known.distance(_described(frames, own)) > ALARM * farthest))

    tests = _windows(parts.test)
    rng = np.random.default_rng(0)
    yield "same_domain", share(tests)
    yield "scrambled_each", share(_scrambled(tests, rng, together=False))
    yield "scrambled_together", share(_scrambled(tests, rng, together=True))
    yield "louder", share(LOUDER * tests)
    yield "twice_the_step", share(_windows(parts.test, 2))
    others = {other: _windows(one.test)[::EVERY] for other, one in data.items() if other != name}
    for other, frames in others.items():
        theirs = units[other]
        yield "another_domain", share(frames)
        alike = (frames - theirs.offset) / theirs.scale * own.scale + own.offset
        yield "another_in_these_units", share(np.asarray(alike, np.float32))


def _windows(data: SequenceSet, step: int = 1) -> Floats:
    """Every pair of frames, ``step`` apart: (N, 2, H, W)."""
    values = np.asarray(data.values)
    return np.concatenate([values[:, at : at + step + 1 : step] for at in range(data.frames - step)])


def _described(frames: Floats, units: Normalization) -> npt.NDArray[np.float64]:
    return descriptors(*normalise(frames, np.isfinite(frames), units))


def _scrambled(frames: Floats, rng: np.random.Generator, *, together: bool) -> Floats:
    """The same power of every wave, phases by chance: of both frames of a window the same turn, or of each its own."""
    noise = rng.standard_normal((len(frames), 1 if together else frames.shape[1], *frames.shape[2:]))
    turn = np.exp(1j * np.angle(np.fft.fft2(noise)))
    turn[..., 0, 0] = 1
    return np.asarray(np.fft.ifft2(np.fft.fft2(frames) * turn).real, np.float32)
