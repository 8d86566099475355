"""What every simulator promises, whatever its equation."""

from __future__ import annotations

from dataclasses import replace
from functools import cache

import jax
import numpy as np
import pytest

from nvp_agentkit.domains import DOMAINS, spectral, turbulence_2d
from nvp_agentkit.domains.runs import run
from nvp_agentkit.errors import InvalidInput
from nvp_agentkit.fields import SequenceSet
from nvp_agentkit.fields.metrics import vrmse
from nvp_agentkit.fields.sequence import FieldMeta, Floats
from nvp_agentkit.model import Normalization, rollout
from nvp_agentkit.model.novelty import Novelty, Numbers, descriptors
from nvp_agentkit.model.predict import normalise
from tests.model.conftest import SMALL, scrambled

SHAPE = (2, 4, 32, 7)  # trajectories, frames, size, seed


@pytest.fixture(scope="module", params=sorted(DOMAINS))
def name(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@cache
def maps_of(name: str) -> SequenceSet:
    return DOMAINS[name].simulate(*SHAPE)


@pytest.fixture(scope="module")
def made(name: str) -> SequenceSet:
    return maps_of(name)


def test_a_seed_gives_the_same_bytes_and_trajectories_differ(name: str, made: SequenceSet) -> None:
    again = DOMAINS[name].simulate(*SHAPE).values
    assert made.values.tobytes() == again.tobytes()
    assert not np.array_equal(made.values[0], made.values[1])


def test_another_seed_starts_elsewhere(name: str, made: SequenceSet) -> None:
    first, other = (DOMAINS[name].process(32, seed, None).first(0) for seed in (7, 8))
    assert not all(np.array_equal(one, two) for one, two in zip(first, other, strict=True))


def test_what_the_meta_declares_holds_for_the_values(name: str, made: SequenceSet) -> None:
    values, meta = made.values.astype(np.float64), made.meta
    assert made.values.shape == (2, 4, 32, 32)
    assert meta.domain == name
    assert FieldMeta.from_json(meta.to_json()) == meta
    assert meta.provenance["seed"] == 7
    assert meta.positive
    assert np.isfinite(values).all()
    assert values.min() >= 0
    totals = values.sum((2, 3))
    if meta.conservation == "dissipative":
        assert (np.diff(totals) < 0).all()
    else:
        assert meta.conservation == "open"


def test_the_next_frame_is_neither_the_last_one_nor_beyond_guessing(made: SequenceSet) -> None:
    assert 0.05 < vrmse(made.values[:, :-1], made.values[:, 1:]) < 0.7


def test_a_network_that_knows_nothing_stays_within_range_for_200_steps(made: SequenceSet) -> None:
    units = Normalization.fit(made.values)
    assert units.low is not None
    assert units.high is not None
    wild = replace(scrambled(SMALL), normalization=units)  # one network for all domains: it is compiled once
    means, log_vars = rollout(wild, made.values[:1, :2, :16, :16], 200)
    assert means.shape == (1, 200, 16, 16)
    span = units.high - units.low
    assert means.min() >= 0
    assert means.max() <= units.high + 1e-5 * span
    assert means[:, -1].std() > 0
    assert np.isfinite(log_vars).all()
    assert np.exp(log_vars / 2).max() <= 1.001 * span


def test_every_other_domain_is_further_out_than_what_was_held_out(name: str, made: SequenceSet) -> None:
    units = Normalization.fit(made.values[0])

    def described(maps: Floats) -> Numbers:
        shown = np.stack([maps[start : start + 2] for start in range(len(maps) - 1)])
        return descriptors(*normalise(shown, np.isfinite(shown), units))

    novelty = Novelty.fit(described(made.values[0]), described(made.values[1]))
    for other in DOMAINS.keys() - {name}:
        assert (novelty.score(described(maps_of(other).values[1])) == 3 / 4).all(), other  # than all three


def test_a_run_that_is_not_a_number_any_more_is_never_delivered(name: str) -> None:
    process = DOMAINS[name].process(32, 0, None)
    broken = process._replace(
        first=lambda number: jax.tree.map(lambda leaf: leaf * np.float32(np.nan), process.first(number))
    )
    with pytest.raises(InvalidInput, match="nan"):
        run(broken, 12, 1)


@pytest.mark.parametrize("size", [16, 64, 66, 100, 128, 256, 512])
def test_default_parameters_are_accepted_at_every_size(name: str, size: int) -> None:
    process = DOMAINS[name].process(size, 0, None)
    assert process.solver.size == size


VARIANTS = [(name, variant) for name, domain in DOMAINS.items() for variant in domain.variants]


@pytest.mark.parametrize(("name", "variant"), VARIANTS)
def test_a_variant_is_simulated_as_it_is_called_and_its_maps_say_so(name: str, variant: str) -> None:
    told = DOMAINS[name].chosen(32, 0, variant).meta
    assert told.provenance["variant"] == variant
    others = [DOMAINS[name].chosen(32, 0, other).meta for other in DOMAINS[name].variants if other != variant]
    assert told.provenance["parameters"] not in [other.provenance["parameters"] for other in others]
    assert DOMAINS[name].chosen(32, 0).meta.provenance["variant"] == next(iter(DOMAINS[name].variants))


def test_the_sequences_of_a_variant_are_its_own() -> None:
    usual, forced = (DOMAINS["turbulence_2d"].simulate(1, 2, 16, variant=name) for name in (None, "forced"))
    assert (usual.meta.provenance["variant"], forced.meta.provenance["variant"]) == ("decaying", "forced")
    assert (usual.meta.conservation, forced.meta.conservation) == ("dissipative", "open")
    assert not np.array_equal(usual.values, forced.values)


def test_a_variant_that_is_not_there_is_refused_naming_those_that_are() -> None:
    for name, text in (
        ("turbulence_2d", "turbulence_2d has no variant 'wild'; there are decaying, forced"),
        ("heat_diffusion", "heat_diffusion has no variant 'wild'; there are none: leave it away"),
    ):
        with pytest.raises(InvalidInput, match=text):
            DOMAINS[name].simulate(1, 2, 16, variant="wild")
    with pytest.raises(InvalidInput, match="variant 'forced' and parameters; give one"):
        DOMAINS["turbulence_2d"].simulate(1, 2, 16, variant="forced", parameters=turbulence_2d.forced(16))


def test_a_random_field_is_the_same_on_every_grid() -> None:
    coarse, fine = (spectral.random_band(size, 2, 5, [1, 2]) for size in (32, 64))
    np.testing.assert_allclose(spectral.regrid(coarse, 64), fine, rtol=1e-4, atol=1e-2)
    on_grid = np.fft.irfft2(fine, s=(64, 64))
    assert on_grid.std() == pytest.approx(1)
    assert abs(on_grid.mean()) < 1e-6


def test_to_a_coarser_grid_and_back_only_the_grid_scale_is_lost() -> None:
    fine = spectral.random_band(64, 1, 9, [0])
    coarse = spectral.regrid(fine, 32)
    kept = np.array(
        [np.fft.irfft2(one, s=(size, size))[:: size // 32, :: size // 32] for one, size in ((fine, 64), (coarse, 32))]
    )
    np.testing.assert_allclose(kept[0], kept[1], atol=1e-5)
    lost = spectral.regrid(spectral.random_band(64, 16, 20, [0]), 32)
    assert np.abs(lost).max() < 1e-9
