"""One small turbulence for all tests that want a real field."""

import pytest

from nvp_agentkit.domains import get_domain
from nvp_agentkit.fields import SequenceSet


@pytest.fixture(scope="session")
def turbulence() -> SequenceSet:
    return get_domain("plasma_physics").simulate(4, 13, 64, seed=0)
