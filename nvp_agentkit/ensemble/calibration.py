"""The agreement rule of an ensemble, from how far its honest members lie apart on held-out data."""

from __future__ import annotations

import itertools

import numpy as np

from nvp_agentkit.ensemble.agreement import Answer, difference, pooled
from nvp_agentkit.ensemble.record import AgreementRule, quorum_of
from nvp_agentkit.errors import InvalidField

QUANTILE = 0.99
MARGIN = 1.25  # on how far apart members lie: those held out are a few trajectories, and others lie farther
FLOOR = 1e-3  # members that happen to be equal may still differ by rounding
DOUBTED_ON = 64, 2**20  # samples, spread over all, and cells of them: to be sure enough together takes no more
DOUBT = (1e-4, 1e4)  # within these


def calibrate_rule(
    means: np.ndarray,
    log_vars: np.ndarray,
    truths: np.ndarray,
    *,
    units: str = "1",
    mask: np.ndarray | None = None,
    quantile: float = QUANTILE,
    margin: float = MARGIN,
) -> AgreementRule:
    """The rule under which honest members agree.

    Args:
        means: predictions of n members for S held-out samples, shape (n, S, H, W), unit of the field.
        log_vars: their calibrated log-variances, the same shape.
        truths: what was observed, shape (S, H, W).
        units: unit of the field.
        mask: True where valid, shape (H, W) or (S, H, W); None for all.
        quantile: share of honest pairs that shall agree before the margin.
        margin: factor from that quantile to the limit, >= 1.

    Returns:
        A rule whose spread is the members' RMS error and whose limits are quantiles of honest pairs, times
        ``margin``. With too few pairs for the quantile the largest difference seen stands in for it. Its ``doubt``
        makes the variance of what so many members say together the square of its error.

    Raises:
        InvalidField: fewer than two members, shapes that do not fit, or a value not finite in a valid cell.
    """
    _check(means, log_vars, truths, mask)
    samples, shape = means.shape[1], means.shape[2:]
    masks = np.broadcast_to(True if mask is None else mask, (samples, *shape))
    spread = _spread(means, truths, masks)
    members = range(means.shape[0])
    pairs = np.array([
        difference(Answer(means[i, k], log_vars[i, k]), Answer(means[j, k], log_vars[j, k]), spread, masks[k])
        for k in range(samples) if masks[k].any()
        for i, j in itertools.combinations(members, 2)
    ])
    distance, peak, variance, budget = (
        max(FLOOR, float(bound) * margin) for bound in _upper_quantile(pairs, quantile)
    )
    return AgreementRule(
        units=units, spread=spread, limit=distance, peak_limit=peak, variance_limit=variance, budget_limit=budget,
        quantile=quantile, margin=margin, pairs=len(pairs),
        doubt=_doubts(means, log_vars, truths, masks),
    )


def _doubts(means: np.ndarray, log_vars: np.ndarray, truths: np.ndarray, masks: np.ndarray) -> tuple[float, ...]:
    """For 1, 2, ... members; 1 where they are no quorum."""
    fewest, most = quorum_of(len(means)), len(means)
    counts = range(fewest, most + 1)
    return (1.0,) * (fewest - 1) + tuple(_doubt(means, log_vars, truths, masks, count) for count in counts)


def _doubt(means: np.ndarray, log_vars: np.ndarray, truths: np.ndarray, masks: np.ndarray, count: int) -> float:
    """Mean squared error over mean variance of what ``count`` members say together, of all groups of so many."""
    squares = variances = 0.0
    observed, (samples, most) = np.flatnonzero(masks.any((1, 2))), DOUBTED_ON
    samples = max(1, min(samples, most // masks[0].size))
    for sample in observed[np.unique(np.linspace(0, len(observed) - 1, samples).astype(int))]:
        cells = masks[sample]
        told, claimed = (array[:, sample, cells].astype(np.float64) for array in (means, log_vars))
        claimed = np.exp(claimed)
        for group in itertools.combinations(range(len(means)), count):
            mean, variance = pooled([told[one] for one in group], [claimed[one] for one in group])
            squares += float(((mean - truths[sample, cells]) ** 2).sum())
            variances += float(variance.sum())
    return float(np.clip(squares / variances, *DOUBT))


def _spread(means: np.ndarray, truths: np.ndarray, masks: np.ndarray) -> float:
    """RMS error over members, samples and valid cells; never zero, so that perfect members can be compared."""
    errors = (means.astype(np.float64) - truths)[:, masks]
    scale = float(np.sqrt(np.mean(truths[masks].astype(np.float64) ** 2)))
    return max(float(np.sqrt(np.mean(errors**2))), 1e-6 * scale, float(np.finfo(np.float32).tiny))


def _upper_quantile(pairs: np.ndarray, quantile: float) -> np.ndarray:
    """Per column the ceil((N + 1) q)-th smallest value: the finite-sample quantile of split conformal."""
    rank = min(int(np.ceil((len(pairs) + 1) * quantile)), len(pairs))
    ranked: np.ndarray = np.sort(pairs, axis=0)[rank - 1]
    return ranked


def _check(means: np.ndarray, log_vars: np.ndarray, truths: np.ndarray, mask: np.ndarray | None) -> None:
    if means.ndim != 4 or means.shape[0] < 2 or means.shape[1] < 1:
        raise InvalidField(f"means of shape {means.shape}; calibration needs (n >= 2 members, S >= 1, H, W)")
    if log_vars.shape != means.shape or truths.shape != means.shape[1:]:
        raise InvalidField(f"means {means.shape}, log_vars {log_vars.shape} and truths {truths.shape} do not fit")
    if mask is not None and mask.shape not in (means.shape[1:], means.shape[2:]):
        raise InvalidField(f"mask of shape {mask.shape} fits neither {means.shape[1:]} nor {means.shape[2:]}")
    valid = np.broadcast_to(True if mask is None else mask, truths.shape)
    if not valid.any():
        raise InvalidField("every cell is masked; there is nothing to calibrate on")
    for name, array in (("means", means[:, valid]), ("log_vars", log_vars[:, valid]), ("truths", truths[valid])):
        if not np.isfinite(array).all():
            raise InvalidField(f"{name}: a valid cell is not finite; mask it, or mend the model")
