"""A forecaster of plain NumPy: each wave turns and fades as it did, on average, in training."""

import numpy as np

context_frames = 1


def fit(train, *, seed):
    """One complex factor a wavenumber, fitted to a random half of the pairs of frames; and what that misses."""
    chosen = np.random.default_rng(seed).random((train.trajectories, train.frames - 1)) < 0.5
    chosen[0, 0] = True
    waves = np.fft.rfft2(train.values)
    now, then = waves[:, :-1][chosen], waves[:, 1:][chosen]
    factor = (then * now.conj()).sum(0) / ((np.abs(now) ** 2).sum(0) + 1e-12)
    missed = np.fft.irfft2(then - factor * now, s=train.grid)
    return {"real": factor.real, "imaginary": factor.imag, "sigma": missed.std(0) + 1e-12}


def predict_next(learnt, frames, mask):
    """Mean and log-variance of the next frame, (B, H, W) each, from frames (B, K, H, W)."""
    grid = frames.shape[-2:]
    if learnt["sigma"].shape != grid:
        raise ValueError(f"fields of {grid} cells; it was fitted on {learnt['sigma'].shape}")
    factor = learnt["real"] + 1j * learnt["imaginary"]
    mean = np.fft.irfft2(factor * np.fft.rfft2(frames[:, -1]), s=grid)
    return mean, np.broadcast_to(2 * np.log(learnt["sigma"]), mean.shape)
