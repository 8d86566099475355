"""The facts about code and machine are true of this very process."""

from __future__ import annotations

import platform
import subprocess
import sys

from nvp_agentkit import __version__
from nvp_agentkit.lineage import code


def test_the_code_says_its_version_and_in_a_checkout_its_commit():
    fact = code.running_code()
    assert fact.properties["version"] == __version__
    head = subprocess.run(["git", "rev-parse", "HEAD"], cwd=code.PACKAGE, capture_output=True, text=True, check=False)
    if head.returncode == 0 and "commit" in fact.properties:
        assert fact.properties["commit"] == head.stdout.strip()
        assert ("changes" in fact.properties) == fact.properties["dirty"]


def test_a_copy_inside_somebody_elses_repository_claims_no_commit(tmp_path, monkeypatch):
    who = ["-c", "user.name=somebody", "-c", "user.email=somebody@example.org"]
    for command in (["init", "-q"], [*who, "commit", "-q", "--allow-empty", "-m", "theirs"]):
        subprocess.run(["git", *command], cwd=tmp_path, check=True)
    (tmp_path / "__init__.py").touch()
    monkeypatch.setattr(code, "PACKAGE", tmp_path)
    code.running_code.cache_clear()
    assert code.running_code().properties == {"version": __version__}
    code.running_code.cache_clear()


def test_the_environment_is_the_same_each_time_it_is_looked_at():
    first, second = (code.running_environment(jax="0.10.2", device="cpu") for _ in range(2))
    assert first == second
    assert first.properties["python"] == platform.python_version()
    assert first.properties["threads"] >= 1
    assert first.id != code.running_environment(jax="0.9.0", device="cpu").id


def test_building_facts_needs_no_graph_driver():
    asked = "import sys, nvp_agentkit.lineage.edges, nvp_agentkit.lineage.code; print('neo4j' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", asked], capture_output=True, text=True, check=True).stdout == "False\n"
