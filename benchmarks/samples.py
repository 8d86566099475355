"""How good samples, doubt further ahead and the word of an unfamiliar field are: what decisions 027 and 029 stand on.

A champion in each of two simulators at 64x64, 8 trajectories to train on, 2 to calibrate on, 4 to judge. Ten samples of
each test window by `model.sample_next`, beside draws cell by cell and the mean alone: fair CRPS of cells and of means
over 8x8, energy score of whole fields, variogram score (p = 0.5, lags 1, 2 and 4), in units of the field's spread;
spread over error, corrected for ten; share of the errors' power by wavenumber. Then scales, widths and coverage of
the 90% interval by lead time, and shares of windows that count as unfamiliar. ``--cells`` measures no more
than so many of these three parts that earlier runs have not, and tells what there is.
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterator
from functools import partial
from itertools import combinations, pairwise
from typing import NamedTuple

import numpy as np

from benchmarks.cells import Numbers, cell, place
from benchmarks.one_core import pin
from benchmarks.unfamiliar import shares
from benchmarks.verdict import BrokenError, Figure
from nvp_agentkit.domains import DOMAINS
from nvp_agentkit.fields.metrics import vrmse
from nvp_agentkit.fields.scores import coverage, fair_crps, width
from nvp_agentkit.fields.sequence import Floats, SequenceSet
from nvp_agentkit.model import ModelBundle, intervals, predict_next, sample_next
from nvp_agentkit.training import MemberTrainer, StepPacer, ensemble
from nvp_agentkit.training.evaluate import Forecasts, ahead
from nvp_agentkit.training.examples import all_windows

STEPS = 400
COUNT, ROLLED = 10, 64
LAGS = (1, 2, 4)
POOLED = 8  # cells a side
BANDS = (0, 8, 24, 64)  # edges, waves in a field of 64 cells
UNFAMILIAR = "unfamiliar"
LEAST_SPREAD = 0.85  # over the error


class Plan(NamedTuple):
    """How much of everything."""

    steps: int = STEPS
    domains: tuple[str, ...] = ("plasma_physics", "shear_flow")
    size: int = 64
    frames: int = 31
    trajectories: tuple[int, int, int] = (8, 2, 4)


QUICK = Plan(10, ("shear_flow",), 32, 11, (2, 1, 1))


def measure(*, quick: bool, steps: int | None = None, cells: int | None = None) -> dict[str, Figure]:
    """Quick: one simulator at 32x32 and few steps, nothing about unfamiliar fields.

    Raises:
        BrokenError: nothing is measured yet.
    """
    pin()
    plan = QUICK if quick else Plan(steps or STEPS)
    parts = {domain: partial(judged, domain, plan) for domain in plan.domains}
    if not quick:
        parts[UNFAMILIAR] = partial(shares, plan.size)
    found, room = {}, math.inf if cells is None else cells
    for name, made in parts.items():
        new = not quick and not place("samples", name, plan).exists()
        if new and room < 1:
            continue
        room -= new
        found[name] = made() if quick else cell("samples", name, plan, made)
    if not found:
        raise BrokenError("nothing is measured yet; let it measure some parts with --cells")
    figures = {
        "parts": Figure(len(found), f"of {len(parts)}", goal=len(parts), higher_is_better=True),
        "steps": Figure(plan.steps, "of training", goal=STEPS, higher_is_better=True),
    }
    for part, numbers in found.items():
        figures |= {f"{part}/{name}": _figure(name, value, held=not quick) for name, value in numbers.items()}
    return figures


def _figure(name: str, value: float, *, held: bool) -> Figure:
    if name == "sampled/spread" and held:
        return Figure(value, "ratio", floor=LEAST_SPREAD, higher_is_better=True)
    return Figure(value, "CPU-ms" if name.endswith("_ms") else "ratio")


def judged(domain: str, plan: Plan) -> Numbers:
    """Train the champion, and score what it says of trajectories it has not seen."""
    train, validation, test = (
        DOMAINS[domain].simulate(count, plan.frames, plan.size, seed)
        for seed, count in zip((1, 2, 3), plan.trajectories, strict=True)
    )
    recipe = ensemble(train, members=1)[0]
    bundle = MemberTrainer(recipe.config).fit(train, validation, StepPacer(plan.steps)).bundle
    return dict(_samples(bundle, test)) | dict(_leads(bundle, test))


def _samples(bundle: ModelBundle, test: SequenceSet) -> Iterator[tuple[str, float]]:
    frames, _, came, _ = all_windows(test, bundle.config.context_frames)
    mean, log_var = predict_next(bundle, frames)
    yield "vrmse", vrmse(mean, came)
    began = time.process_time()
    sampled = sample_next(bundle, frames, COUNT, seed=0)
    yield "sampled/sample_ms", 1000 * (time.process_time() - began) / COUNT / len(frames)
    drawn = np.random.default_rng(0).standard_normal((COUNT, *mean.shape), np.float32)
    by_cell = np.asarray(mean + np.exp(log_var / 2) * drawn, np.float32)
    told: dict[str, Floats] = {"mean": np.repeat(mean[None], 2, 0), "by_cell": by_cell, "sampled": sampled}
    for name, fields in told.items():
        for score, value in _scores(fields, mean, came):
            yield f"{name}/{score}", value


def _scores(fields: Floats, mean: Floats, came: Floats) -> Iterator[tuple[str, float]]:
    """Of forecasts (M, N, H, W); ``mean`` is what their errors are counted from."""
    unit = float(came.std())
    count, middle = len(fields), fields.mean(0)
    yield "crps", fair_crps(fields, came) / unit
    yield "crps_8x8", fair_crps(_pooled(fields), _pooled(came)) / unit
    yield "energy", _energy(fields, came) / unit
    yield "variogram", _variogram(fields, came) / unit
    spread = fields.var(0, ddof=1).mean() * (count + 1) / count
    yield "spread", float(np.sqrt(spread / np.square(middle - came).mean()))
    powers = zip(_power(fields - mean), _power(came - mean), strict=True)
    for low, (ours, errors) in zip(BANDS, powers, strict=False):
        yield f"power_from_{low}", ours / errors


def _energy(fields: Floats, came: Floats) -> float:
    """Gneiting & Raftery (2007), fair: distances between whole fields."""
    away = np.mean([_length(one - came) for one in fields])
    apart = np.mean([_length(one - other) for one, other in combinations(fields, 2)])
    return float(away - apart / 2)


def _length(fields: Floats) -> float:
    return float(np.mean(np.sqrt(np.square(fields).sum((-1, -2)))))


def _variogram(fields: Floats, came: Floats) -> float:
    """Scheuerer & Hamill (2015), p = 0.5: are neighbours as unlike as they should be?"""
    found = 0.0
    for axis in (-1, -2):
        for lag in LAGS:
            real, told = (np.sqrt(np.abs(one - np.roll(one, lag, axis))) for one in (came, fields))
            found += float(np.mean(np.square(real - told.mean(0))))
    return found


def _pooled(fields: Floats) -> Floats:
    *left, h, w = fields.shape
    found: Floats = fields.reshape(*left, h // POOLED, POOLED, w // POOLED, POOLED).mean((-3, -1))
    return found


def _power(fields: Floats) -> list[float]:
    """Of errors (..., H, W), in each of `BANDS`."""
    h, w = fields.shape[-2:]
    waves = BANDS[-1] * np.hypot(np.fft.fftfreq(h)[:, None], np.fft.fftfreq(w))
    power = np.mean(np.square(np.abs(np.fft.fft2(fields.reshape(-1, h, w)))), 0)
    return [float(power[(waves >= low) & (waves < high)].sum()) for low, high in pairwise(BANDS)]


def _leads(bundle: ModelBundle, test: SequenceSet) -> Iterator[tuple[str, float]]:
    """What of the 90% interval becomes of it further ahead, and how much the pattern of doubt is worth."""
    for lead, told in ({1: Forecasts.of(bundle, test)} | ahead(bundle, test, count=ROLLED)).items():
        low, high = intervals(told.mean, told.log_var, bundle.calibration, lead)[0.9]
        sigma = np.maximum(np.exp(told.log_var / 2), np.finfo(np.float32).tiny)
        errors2 = np.square(told.mean - told.came)
        yield f"lead_{lead}/scale", bundle.calibration.at(lead).scale
        yield f"lead_{lead}/width_90", width(low, high, told.came) / float(told.came.std())
        yield f"lead_{lead}/coverage_90", coverage(low, high, told.came)
        correlation = np.corrcoef(told.log_var.ravel(), np.log(errors2 + 1e-12 * errors2.mean()).ravel())[0, 1]
        yield f"lead_{lead}/correlation", float(correlation)
        yield f"lead_{lead}/likelihood", float(np.mean(np.log(sigma / told.came.std()) + errors2 / sigma**2 / 2))
