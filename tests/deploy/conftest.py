"""docker-compose.yml as the engine would be given it."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from nvp_agentkit.cli import deployment

ROOT = Path(__file__).resolve().parents[2]
VARIABLE = re.compile(r"\$\{(\w+)(?::[?-][^}]*)?\}|\$(\$)")


def filled(value: Any, given: dict[str, str]) -> Any:
    """``value`` with its ``${VARIABLE}`` replaced, as compose does."""
    match value:
        case dict():
            return {key: filled(one, given) for key, one in value.items()}
        case list():
            return [filled(one, given) for one in value]
        case str():
            return VARIABLE.sub(lambda found: found[2] or given[found[1]], value)
    return value


@pytest.fixture(scope="session")
def example() -> dict[str, str]:
    """The variables of .env.example."""
    lines = (ROOT / ".env.example").read_text().splitlines()
    return dict(line.split("=", 1) for line in lines if re.match(r"NVP_\w+=", line))


@pytest.fixture(scope="session")
def services(example: dict[str, str]) -> dict[str, Any]:
    """Every service by name."""
    whole = yaml.safe_load((ROOT / "docker-compose.yml").read_text())
    return filled(whole["services"], example)


@pytest.fixture(scope="session")
def ours(services: dict[str, Any]) -> dict[str, Any]:
    """The services that run this product."""
    return {name: services[name] for name in (*deployment.WORKERS, "keys")}
