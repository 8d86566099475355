from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from nvp_agentkit.errors import InvalidFile, InvalidInput
from nvp_agentkit.fields.scores import fair_crps
from nvp_agentkit.model import ModelBundle, Normalization, load_model, model_bytes, predict_next, sample_next
from nvp_agentkit.model.bundle import WAVENUMBERS, Coherence
from nvp_agentkit.model.samples import fit_coherence, noises
from tests.model.conftest import SMALL, scrambled

LONG = Coherence(1.0, 1.0, tuple(np.exp(-((WAVENUMBERS / 0.08) ** 2))))  # waves of a dozen cells
RNG = np.random.default_rng(7)


def sampled(bundle: ModelBundle, conservation: str = "open", **changes: object) -> ModelBundle:
    return replace(bundle, config=replace(bundle.config, conservation=conservation), coherence=LONG, **changes)


def alike(fields: np.ndarray, axis: int = -1) -> float:
    """Correlation of neighbouring cells."""
    return float(np.mean(fields * np.roll(fields, 1, axis)) / np.mean(fields**2))


def smooth_noise(count: int, cells: float, side: int = 32) -> np.ndarray:
    wave = np.fft.fftfreq(side)[:, None] ** 2 + np.fft.rfftfreq(side) ** 2
    found = np.fft.irfft2(np.fft.rfft2(RNG.standard_normal((count, side, side))) * np.exp(-wave * cells**2))
    return np.asarray(found / found.std(), np.float32)


def test_neighbours_err_together_in_samples_as_they_did_in_validation(bundle, frames):
    errors = smooth_noise(40, cells=8)
    nothing = np.zeros_like(errors)
    found = fit_coherence(nothing, nothing, errors, None, scale=1.0, boundary=SMALL.boundary)
    large = np.tile(frames, (1, 1, 2, 2))[:, :, :32, :32]
    model = replace(bundle, config=replace(SMALL, positive=False), coherence=found)
    drawn = sample_next(model, large, 10, seed=0) - predict_next(model, large)[0]
    assert alike(errors) > 0.6
    for axis in (-1, -2):
        assert alike(drawn, axis) == pytest.approx(alike(errors, axis), abs=0.05)


def test_a_mean_over_a_region_is_as_uncertain_as_its_errors_are_which_cell_noise_denies():
    truth = smooth_noise(60, cells=8)
    mean, log_var = np.zeros_like(truth), np.zeros_like(truth)
    found = fit_coherence(mean[:30], log_var[:30], truth[:30], None, scale=1.0, boundary=("periodic", "periodic"))
    coherent = np.stack(list(noises(found, ("periodic", "periodic"), (30, 32, 32), 20, seed=0)))
    by_cell = RNG.standard_normal(coherent.shape)

    def pooled(fields: np.ndarray) -> np.ndarray:
        return fields.reshape(*fields.shape[:-2], 8, 4, 8, 4).mean((-3, -1))

    assert fair_crps(pooled(coherent), pooled(truth[30:])) < 0.9 * fair_crps(pooled(by_cell), pooled(truth[30:]))
    assert pooled(coherent).std() == pytest.approx(pooled(truth).std(), rel=0.1)


def test_spread_is_what_errors_are_in_sure_cells_and_in_unsure_ones():
    claimed = np.exp(RNG.normal(-2, 0.5, (40, 16, 16))).astype(np.float32)
    true = 3 * claimed**1.5
    errors = true * RNG.standard_normal(claimed.shape).astype(np.float32)
    log_var = 2 * np.log(claimed)
    found = fit_coherence(np.zeros_like(errors), log_var, errors, None, scale=1.0, boundary=("open", "open"))
    assert found.stretch == pytest.approx(1.5, abs=0.1)
    assert found.gain * np.exp(-2 * found.stretch) == pytest.approx(3 * np.exp(-2 * 1.5), rel=0.1)


def test_cells_that_nobody_observed_do_not_count():
    errors = smooth_noise(10, cells=4)
    seen = np.ones(errors.shape, bool)
    seen[:, 4:8, 4:8] = False
    odd = np.where(seen, errors, np.nan).astype(np.float32)
    nothing = np.zeros_like(errors)
    found, filled = (
        fit_coherence(nothing, nothing, truth, mask, scale=1.0, boundary=("periodic", "open"))
        for truth, mask in ((odd, seen), (np.where(seen, errors, 9e9), seen))
    )
    assert found == filled
    assert found.gain == pytest.approx(errors[seen].std(), rel=1e-3)


@pytest.mark.parametrize("conservation", ["closed", "dissipative"])
def test_every_sample_has_the_mean_s_total_and_no_cell_below_zero(bundle, frames, conservation):
    model = sampled(bundle, conservation, normalization=Normalization(0.5, 0.3))
    mean, _ = predict_next(model, frames)
    drawn = sample_next(model, frames, 3, seed=1)
    assert drawn.dtype == np.float32
    assert drawn.min() >= 0
    assert np.abs(drawn - mean).max() > 0.01
    np.testing.assert_allclose(drawn.sum((2, 3)), np.broadcast_to(mean.sum((1, 2)), (3, 3)), rtol=1e-5)


def test_a_field_that_cannot_be_negative_is_not_in_an_open_domain_either(bundle, frames):
    assert sample_next(sampled(bundle), frames, 3, seed=1).min() == 0


def test_a_seed_says_it_all_and_the_first_samples_do_not_depend_on_how_many_follow(bundle, frames):
    model = sampled(bundle)
    first = sample_next(model, frames, 2, seed=3)
    np.testing.assert_array_equal(first, sample_next(model, frames, 3, seed=3)[:2])
    np.testing.assert_allclose(first[:, :2], sample_next(model, frames[:2], 2, seed=3), atol=1e-5)
    assert not np.array_equal(first, sample_next(model, frames, 2, seed=4))
    assert not np.array_equal(first[0], first[1])


def test_edges_that_do_not_meet_are_not_alike(bundle, frames):
    walls = replace(bundle, config=replace(SMALL, positive=False, boundary=("periodic", "open")))
    model = replace(walls, coherence=LONG)
    drawn = sample_next(model, frames, 40, seed=0) - predict_next(model, frames)[0]
    sure = np.exp(predict_next(model, frames)[1] / 2)
    noise = drawn / sure
    across = float(np.mean(noise[..., 0] * noise[..., -1]))
    around = float(np.mean(noise[..., 0, :] * noise[..., -1, :]))
    assert noise.std() == pytest.approx(1, abs=0.1)
    assert abs(across) < 0.3
    assert around > 0.6


@pytest.mark.parametrize(("count", "seed", "told"), [(0, 0, "count is 0"), (10_001, 0, "10001"), (1, -1, "seed is -1")])
def test_counts_and_seeds_out_of_range_are_refused(bundle, frames, count, seed, told):
    with pytest.raises(InvalidInput, match=told):
        sample_next(sampled(bundle), frames, count, seed)


def test_a_model_that_does_not_know_how_its_errors_hang_together_says_what_to_do(bundle, frames):
    with pytest.raises(InvalidInput, match="with_coherence"):
        sample_next(bundle, frames, 1, seed=0)


def test_a_file_keeps_it(bundle, frames):
    model = sampled(scrambled(SMALL))
    back = load_model(model_bytes(model))
    assert back.coherence == LONG
    np.testing.assert_array_equal(sample_next(back, frames, 1, 0), sample_next(model, frames, 1, 0))
    assert load_model(model_bytes(bundle)).coherence is None


@pytest.mark.parametrize(
    "odd",
    [
        replace(LONG, gain=0.0),
        replace(LONG, spectrum=LONG.spectrum[:-1]),
        replace(LONG, spectrum=()),
        replace(LONG, spectrum=tuple(-value for value in LONG.spectrum)),
    ],
)
def test_a_file_that_cannot_be_right_is_refused(bundle, odd):
    with pytest.raises(InvalidFile):
        load_model(model_bytes(replace(bundle, coherence=odd)))
