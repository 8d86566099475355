"""The domain and the sensor of docs/extending.md, installed as it says."""

from __future__ import annotations

import re
import tomllib

import pytest

from nvp_agentkit import plugins
from nvp_agentkit.domains import get_domain, known_domains
from nvp_agentkit.energy.meter import Meter
from nvp_agentkit.energy.sensors import Modelled, named_sensor
from nvp_agentkit.errors import PluginFailed, UnknownDomain, UnknownName
from nvp_agentkit.settings import Settings

from .conftest import EXAMPLE, PAGE


@pytest.fixture
def page(install) -> None:
    text = PAGE.read_text()
    source = re.search(r"```python\n(# my_plugins\.py\n.*?)```", text, re.DOTALL)
    declared = re.findall(r"```toml\n(.*?)```", text, re.DOTALL)[-1]
    install("mine", "0.1", {"my_plugins": source[1]}, tomllib.loads(declared)["project"]["entry-points"])


def test_the_page_says_of_the_example_what_it_is() -> None:
    text = PAGE.read_text()
    assert f"{len((EXAMPLE / 'damped_waves.py').read_text().splitlines())} lines of plain NumPy" in text
    first = tomllib.loads(re.findall(r"```toml\n(.*?)```", text, re.DOTALL)[0])
    assert first["project"]["entry-points"] == tomllib.loads((EXAMPLE / "pyproject.toml").read_text())["project"][
        "entry-points"
    ]


def test_its_domain_is_simulated_under_its_own_name(page) -> None:
    assert "stirred_tank" in known_domains()
    made = get_domain("stirred_tank").simulate(trajectories=1, frames=2, size=16)
    assert (made.values.shape, made.meta.domain) == ((1, 2, 16, 16), "stirred_tank")
    with pytest.raises(UnknownDomain, match="shear_flow, stirred_tank, turbulence_2d"):
        get_domain("nonsense")


def test_its_sensor_counts(page) -> None:
    meter = Meter(named_sensor(Settings(sensor="wall_plug")))
    with meter.window() as window:
        pass
    assert (window.reading().sensor, window.reading().method) == ("wall_plug", "measured")
    assert named_sensor(Settings(watts_per_core=7)) == Modelled(7)
    assert named_sensor(Settings(sensor="best")).name in ("rapl", "cpu-time")
    with pytest.raises(UnknownName, match=r"brings 'thermometer' for nvp_agentkit\.sensors; there are: wall_plug"):
        named_sensor(Settings(sensor="thermometer"))


def test_what_is_no_domain_and_no_sensor_is_called_so(install) -> None:
    source = "class odd:\n def __init__(self, settings): pass\n def begin_window(self): return lambda work: 7\n"
    places = {plugins.DOMAINS: {"odd": "odd:odd"}, plugins.SENSORS: {"odd": "odd:odd", "older": "odd:older"}}
    install("odd", "1", {"odd": source}, places)
    with pytest.raises(PluginFailed, match=r"plug-in odd of odd 1: it is .* no Domain of that name"):
        get_domain("odd")
    with pytest.raises(PluginFailed, match="it read 7, no Reading"):
        Meter(named_sensor(Settings(sensor="odd"))).begin_window().reading()
    with pytest.raises(PluginFailed, match="older of odd 1 cannot be imported: AttributeError"):
        named_sensor(Settings(sensor="older"))
