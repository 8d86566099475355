"""States of several channels: energy is what forecasters see, the others stay beside it under their names."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import h5py
import numpy as np
import pytest

from nvp_agentkit.errors import InvalidField, InvalidFile
from nvp_agentkit.fields import FieldMeta, SequenceSet, open_sequences, save, split
from nvp_agentkit.fields.joining import join
from nvp_agentkit.fields.readers import Meant, take_in
from nvp_agentkit.fields.writers import write_netcdf, write_zarr

RNG = np.random.default_rng(0)
N, PHI = (RNG.normal(size=(3, 5, 16, 18)).astype(np.float32) for _ in "np")
META = FieldMeta("waves", "J", dt_s=2.0, dx_m=3.0, boundary=("periodic", "open"),
                 provenance={"channels": {"n": "m-3", "phi": "V"}})  # fmt: skip


def waves(mask: np.ndarray | None = None) -> SequenceSet:
    return SequenceSet(N**2 + PHI**2, mask, META, {"n": N, "phi": PHI})


def write_npz(sequences: SequenceSet, path: Path) -> None:
    with path.open("wb") as file:
        np.savez(file, energy=sequences.values, **sequences.channels)


def write_hdf5(sequences: SequenceSet, path: Path) -> None:
    with h5py.File(path, "w") as file:
        for name, values in {"energy": sequences.values, **sequences.channels}.items():
            file[f"state/{name}"] = values


def taken(path: Path, array: str | None = None) -> SequenceSet:
    take_in(path, path.with_suffix(".taken"), Meant("waves"), array=array)
    return open_sequences(path.with_suffix(".taken"))


def test_channels_are_kept_under_their_names_and_read_when_they_are_looked_at(tmp_path: Path) -> None:
    there = np.ones(N.shape, bool)
    there[0, 1, 2, 3] = False
    save(waves(there), tmp_path / "s")
    opened = open_sequences(tmp_path / "s")
    assert list(opened.channels) == ["n", "phi"]
    assert all(isinstance(one, np.memmap) for one in opened.channels.values())
    np.testing.assert_array_equal(opened.channels["phi"], PHI)
    np.testing.assert_array_equal(opened.values, N**2 + PHI**2)
    np.testing.assert_array_equal(opened.mask, there)
    np.testing.assert_array_equal(opened[1].channels["n"], N[1])


def test_a_channel_is_part_of_the_bytes_and_energy_alone_pays_for_none(tmp_path: Path) -> None:
    for name, channels in (("a", {"n": N}), ("b", {"n": PHI}), ("none", {})):
        save(replace(waves(), channels=channels), tmp_path / name)
    assert (tmp_path / "a").read_bytes() != (tmp_path / "b").read_bytes()
    assert b"channel." not in (tmp_path / "none").read_bytes()
    assert (tmp_path / "a").stat().st_size - (tmp_path / "none").stat().st_size < N.nbytes + 256


@pytest.mark.parametrize("write", [write_netcdf, write_zarr])
def test_a_file_of_ours_comes_back_with_its_channels_and_what_they_mean(tmp_path: Path, write) -> None:
    there = np.ones(N.shape, bool)
    there[2, :, :4] = False
    write(waves(there), tmp_path / "written")
    back = taken(tmp_path / "written")
    np.testing.assert_array_equal(back.mask, there)
    np.testing.assert_array_equal(back.values[there], (N**2 + PHI**2)[there])
    for name, values in waves().channels.items():
        np.testing.assert_array_equal(back.channels[name], np.where(there, values, 0))
    assert (back.meta.units, back.meta.dx_m, back.meta.boundary) == ("J", 3.0, META.boundary)
    assert back.meta.provenance["channels"] == META.provenance["channels"]


@pytest.mark.parametrize("write", [write_npz, write_hdf5])
def test_a_file_that_names_no_channels_is_told_which_ones_to_keep(tmp_path: Path, write) -> None:
    write(waves(), tmp_path / "written")
    back = taken(tmp_path / "written", "energy,n,phi")
    np.testing.assert_array_equal(back.values, N**2 + PHI**2)
    assert list(back.channels) == ["n", "phi"]
    np.testing.assert_array_equal(back.channels["phi"], PHI)
    assert taken(tmp_path / "written", "energy").channels == {}


def test_energy_by_a_formula_keeps_the_channels_that_it_was_made_of(tmp_path: Path) -> None:
    write_npz(waves(), tmp_path / "written")
    back = taken(tmp_path / "written", "=n**2 + phi**2")
    np.testing.assert_allclose(back.values, N**2 + PHI**2, rtol=1e-6)
    np.testing.assert_array_equal(back.channels["n"], N)
    assert back.meta.provenance["energy"] == "n ** 2 + phi ** 2"


def test_parts_and_wholes_keep_their_channels(tmp_path: Path) -> None:
    parts = split(waves())
    np.testing.assert_array_equal(parts.test.channels["n"], N[2:])
    np.testing.assert_array_equal(waves().select(frames=slice(1, 3)).channels["phi"], PHI[:, 1:3])
    joined = join([waves(), waves()], tmp_path / "joined")
    np.testing.assert_array_equal(joined.channels["phi"], np.concatenate([PHI, PHI]))
    with pytest.raises(InvalidField, match=r"part 1 has channels \['n'\], part 0 \['n', 'phi'\]"):
        join([waves(), replace(waves(), channels={"n": N})], tmp_path / "unlike")


def test_channels_that_do_not_fit_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InvalidField, match="channel n is float32"):
        SequenceSet(N, None, META, {"n": N[:, :4]})
    with pytest.raises(InvalidField, match="channel time"):
        write_netcdf(SequenceSet(N, None, META, {"time": PHI}), tmp_path / "x")
    holed = N.copy()
    holed[0, 1, 2, 3] = np.nan
    write_npz(SequenceSet(PHI, None, META, {"n": holed}), tmp_path / "holed")
    with pytest.raises(InvalidFile, match=r"n: no value at \(0, 1, 2, 3\), where energy has one"):
        taken(tmp_path / "holed", "energy,n")
    write_npz(SequenceSet(PHI, None, META, {str(number): N for number in range(17)}), tmp_path / "many")
    with pytest.raises(InvalidFile, match="17 channels, limit 16"):
        taken(tmp_path / "many", "energy," + ",".join(map(str, range(17))))
    np.savez(tmp_path / "short.npz", energy=PHI, n=N[:, :4])
    with pytest.raises(InvalidFile, match="unlike shape"):
        taken(tmp_path / "short.npz", "energy,n")
