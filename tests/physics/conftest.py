"""One small turbulence for all tests that want a real field."""

import pytest

from nvp_agentkit.domains.plasma_physics import simulate
from nvp_agentkit.fields import SequenceSet


@pytest.fixture(scope="session")
def turbulence() -> SequenceSet:
    return simulate(4, 13, 64, seed=0)
