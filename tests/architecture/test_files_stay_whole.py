"""Two processes share the tests, and what a file's tests share is made once: each file stays in one of them."""

from __future__ import annotations

import os

import pytest


def test_every_test_belongs_to_a_group_that_stays_together(request: pytest.FixtureRequest) -> None:
    if "PYTEST_XDIST_WORKER" not in os.environ:
        pytest.skip("one process runs all tests")
    apart = [item.nodeid for item in request.session.items if "@" not in item.nodeid]
    assert apart == [], "pytest 9.2 hides the groups from pytest-xdist 3.8: pip install -c constraints.txt pytest"
