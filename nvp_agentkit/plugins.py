"""What other packages bring: models, domains and sensors, found by their entry points (docs/extending.md).

A plug-in is code of somebody else's: whatever it does wrong becomes a `PluginFailed` that names it and its package, and
ends nothing but the call at hand.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.metadata import entry_points
from typing import Any

from nvp_agentkit.errors import NvpError, PluginFailed, UnknownName

MODELS, DOMAINS, SENSORS = "nvp_agentkit.models", "nvp_agentkit.domains", "nvp_agentkit.sensors"


@dataclass(frozen=True)
class Plugin:
    """What the entry point ``name`` leads to, and the package that brings it, as ``damped-waves 0.1``."""

    name: str
    package: str
    thing: Any

    @contextmanager
    def doing(self, what: str) -> Iterator[None]:
        """Run its code inside; what it raises, other than an error of ours, is a `PluginFailed`."""
        with _blamed(f"plug-in {self.name} of {self.package}: {what}"):
            yield

    def failed(self, why: str) -> PluginFailed:
        """The error for what it gave."""
        return PluginFailed(f"plug-in {self.name} of {self.package}: {why}; mend the package")


def names(group: str) -> tuple[str, ...]:
    """What there is in ``group``, in order."""
    return tuple(sorted({found.name for found in entry_points(group=group)}))


def load(group: str, name: str) -> Plugin:
    """The plug-in ``name``, imported.

    Raises:
        UnknownName: no installed package brings it.
        PluginFailed: several do, or it cannot be imported.
    """
    found = tuple(entry_points(group=group, name=name))
    if not found:
        known = ", ".join(names(group)) or "none"
        raise UnknownName(f"no package installed here brings {name!r} for {group}; there are: {known}")
    packages = sorted({f"{one.dist.name} {one.dist.version}" if one.dist else "an unknown package" for one in found})
    if len({one.value for one in found}) > 1:
        raise PluginFailed(f"{' and '.join(packages)} both bring {name!r} for {group}; uninstall all but one")
    with _blamed(f"plug-in {name} of {packages[0]} cannot be imported"):
        return Plugin(name, packages[0], found[0].load())


@contextmanager
def _blamed(what: str) -> Iterator[None]:
    try:
        yield
    except NvpError:
        raise
    except (Exception, SystemExit) as error:
        raise PluginFailed(f"{what}: {type(error).__name__}: {error}; mend the package or uninstall it") from error
