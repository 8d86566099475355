"""Energy by a declared formula: what it gives where the answer is known, and what it refuses to read."""

import numpy as np
import pytest

from nvp_agentkit.errors import InvalidField, InvalidInput
from nvp_agentkit.fields import FieldMeta
from nvp_agentkit.fields.formula import Formula

PERIODIC = FieldMeta("test", boundary=("periodic", "periodic"), dx_m=0.5)
X = np.arange(32) * 2 * np.pi / 32
CHANNELS = {
    "n": np.broadcast_to(np.cos(X), (3, 32, 32)).astype(np.float32),
    "phi": np.broadcast_to(np.sin(2 * X)[:, None], (3, 32, 32)).astype(np.float32),
}


def test_the_energy_of_drift_waves_is_that_of_density_and_flow() -> None:
    found = Formula.read("(n**2 + grad2(phi)) / 2").energy(CHANNELS, PERIODIC)
    slope = 2 * np.cos(2 * X)[:, None] * 2 * np.pi / 32 / 0.5
    assert found.dtype == np.float32
    np.testing.assert_allclose(found[1], (np.cos(X) ** 2 + slope**2) / 2, atol=1e-5)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("n", lambda n: n),
        ("-n + 2", lambda n: 2 - n),
        ("abs(n) - sqrt(n*n)", lambda n: 0 * n),
        ("3*n/4e0", lambda n: 0.75 * n),
    ],
)
def test_arithmetic_is_arithmetic(text, expected) -> None:
    n = CHANNELS["n"]
    np.testing.assert_allclose(Formula.read(text).energy(CHANNELS, PERIODIC), expected(n), atol=1e-6)


def test_it_says_which_channels_it_needs_and_writes_itself_one_way() -> None:
    formula = Formula.read(" (n**2+grad2( phi ))/2 ")
    assert formula.channels == ("n", "phi")
    assert formula.text == "(n ** 2 + grad2(phi)) / 2" == Formula.read(formula.text).text


def test_what_has_no_value_becomes_no_number_and_no_error() -> None:
    found = Formula.read("sqrt(n) + 1 / (phi - phi)").energy(CHANNELS, PERIODIC)
    assert not np.isfinite(found).any()


@pytest.mark.parametrize(
    "text",
    [
        "__import__('os').system('true')", "n.shape", "n[0]", "lambda: n", "n if n else phi", "n; phi", "'n'", "n**99",
        "n**phi", "2**n", "sin(n)", "sqrt(n, phi)", "sqrt(x=n)", "1 + 2", "", "(" * 200, "n" * 500, "n @ phi", "n, phi",
        "True * n", "[n]", "f'{n}'", "n := 1", "n // 2", "n % 2", "n and phi", "1j * n", "...",
    ],
)  # fmt: skip
def test_what_is_no_formula_is_refused_in_words(text: str) -> None:
    with pytest.raises(InvalidInput, match="formula"):
        Formula.read(text)


def test_channels_that_are_missing_or_do_not_match_are_named() -> None:
    formula = Formula.read("n + phi")
    with pytest.raises(InvalidField, match="needs phi; there are n"):
        formula.energy({"n": CHANNELS["n"]}, PERIODIC)
    with pytest.raises(InvalidField, match="shapes"):
        formula.energy({**CHANNELS, "phi": CHANNELS["phi"][:1]}, PERIODIC)
