"""Energy derived from a file's channels by a formula that travels with it."""

from pathlib import Path

import numpy as np
import pytest

from nvp_agentkit.errors import InvalidFile, InvalidInput
from nvp_agentkit.fields import SequenceSet, open_sequences
from nvp_agentkit.fields.readers import Meant, take_in

RNG = np.random.default_rng(0)
N, PHI = (RNG.normal(size=(5, 16, 18)).astype(np.float32) for _ in "np")


def taken(folder: Path, formula: str, **channels: np.ndarray) -> SequenceSet:
    np.savez(folder / "waves.npz", **({"n": N, "phi": PHI} | channels))
    take_in(folder / "waves.npz", folder / "taken", Meant("waves", "J", dx_m=2.0), array=formula)
    return open_sequences(folder / "taken")


def test_the_energy_of_two_channels_is_taken_in_and_says_what_it_is(tmp_path: Path) -> None:
    found = taken(tmp_path, "=(n**2 + grad2(phi)) / 2")
    slopes = [np.gradient(PHI, 2.0, axis=axis, edge_order=2) for axis in (1, 2)]
    np.testing.assert_allclose(found.values[0], (N**2 + slopes[0] ** 2 + slopes[1] ** 2) / 2, rtol=1e-4, atol=1e-5)
    assert (found.meta.units, found.meta.provenance["energy"]) == ("J", "(n ** 2 + grad2(phi)) / 2")
    assert found.meta.positive
    assert found.mask is None


def test_a_value_that_one_channel_lacks_and_a_division_by_zero_are_a_mask(tmp_path: Path) -> None:
    holed, zero = N.copy(), PHI.copy()
    holed[1, 2, 3], zero[2, 3, 4] = np.nan, 0
    found = taken(tmp_path, "=n / phi", n=holed, phi=zero)
    assert found.mask is not None
    assert np.argwhere(~found.mask[0]).tolist() == [[1, 2, 3], [2, 3, 4]]


def test_what_is_infinite_in_the_file_is_refused_as_ever(tmp_path: Path) -> None:
    endless = N.copy()
    endless[1, 2, 3] = np.inf
    with pytest.raises(InvalidFile, match=r"inf at \(0, 1, 2, 3\)"):
        taken(tmp_path, "=1 / n + phi", n=endless)


def test_channels_that_are_missing_or_unlike_and_what_is_no_formula_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InvalidFile, match="psi"):
        taken(tmp_path, "=n + psi")
    with pytest.raises(InvalidFile, match="unlike shape"):
        taken(tmp_path, "=n + phi", phi=PHI[:4])
    with pytest.raises(InvalidInput, match="no part of a formula"):
        taken(tmp_path, "=n.dtype")
