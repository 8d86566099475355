"""Six: a quorum. Three processes answer with three models; what two of them agree on comes with a proof."""

from __future__ import annotations

import dataclasses
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from nvp_agentkit.artifacts import Artifacts
from nvp_agentkit.client import Forecast
from nvp_agentkit.errors import VerificationFailed


@pytest.fixture
async def forecast(agent, ensemble, field) -> Forecast:
    async with agent() as nvp:
        return await nvp.predict(field, domain="plasma_physics", assurance="quorum", budget_j=5)


async def test_at_least_two_of_three_voters_stand_behind_the_answer(forecast: Forecast, ensemble) -> None:
    assert 2 <= len(forecast.agreed) <= 3
    assert set(forecast.models.values()) == {member.model_id for member in ensemble.job.members}
    assert np.isfinite(forecast.mean).all()


async def test_the_certificate_proves_itself(forecast: Forecast) -> None:
    # Signatures, keys and rule are checked offline; the agreement is computed anew from the votes' arrays.
    verdict = forecast.certificate.verify()
    assert verdict.recomputed
    assert (verdict.account, verdict.request_id) == ("ace-1", forecast.request_id)
    assert set(forecast.agreed) == set(verdict.agreed)


def test_as_a_dataset_it_brings_the_votes_whose_arrays_are_kept(forecast: Forecast, tmp_path: Path) -> None:
    dataset = forecast.to_xarray()
    kept = {f"voter-{number}" for number in dataset["member"].values}
    assert set(forecast.agreed) <= kept <= set(forecast.models)
    agreed = dataset["members"].sel(member=[int(voter[-1]) for voter in forecast.agreed])
    np.testing.assert_allclose(agreed.mean("member"), dataset["mean"], rtol=1e-5)  # so the answer was made
    assert dataset.attrs["agreed"] == " ".join(forecast.agreed)
    assert dataset.attrs["certificate"].startswith("sha256:")
    elsewhere = dataclasses.replace(forecast.certificate, artifacts=Artifacts(str(tmp_path)))
    assert "members" not in dataclasses.replace(forecast, certificate=elsewhere).to_xarray()


def test_a_certificate_that_was_touched_proves_nothing(forecast: Forecast, stack, tmp_path: Path) -> None:
    path = forecast.certificate.save(tmp_path / "certificate.json")
    # Anybody who has the root's public key can check it: nvp verify certificate.json
    command = [sys.executable, "-m", "nvp_agentkit.cli", "verify", "--data-dir", str(stack.settings.data_dir)]
    said = subprocess.run([*command, str(path)], capture_output=True, text=True, check=False)
    assert (said.returncode, said.stdout.startswith("valid: ")) == (0, True)
    envelope = json.loads(path.read_text())
    envelope["payload"] = envelope["payload"][:-8] + "AAAAAAA="
    path.write_text(json.dumps(envelope))
    said = subprocess.run([*command, str(path)], capture_output=True, text=True, check=False)
    assert (said.returncode, "verification_failed" in said.stderr) == (1, True)
    assert "Traceback" not in said.stderr


async def test_a_certificate_of_another_request_is_none_of_this_one(agent, ensemble, field, forecast) -> None:
    async with agent() as nvp:
        other = await nvp.predict(1.01 * field, domain="plasma_physics", assurance="quorum", budget_j=5)
    swapped = type(forecast.certificate)(
        other.certificate.raw, forecast.certificate.root_key, forecast.certificate.artifacts,
        forecast.certificate.exchange,
    )  # fmt: skip
    with pytest.raises(VerificationFailed):
        swapped.verify()
