"""Which credential Composer sends, as a table; the real Composer is asked in integration/test_predictions.py."""

from __future__ import annotations

import pytest

from ic_secrets.composer.precedence import Source, Winner, find_winners, order_sources

OLD, MIDDLE, NEW = (2, 5, 5), (2, 8, 8), (2, 11, 0)
CASES = {
    "one alone": ({"home": ["bearer"]}, NEW, ("bearer", "home")),
    "the project over the home": ({"home": ["bearer"], "project": ["bearer"]}, NEW, ("bearer", "project")),
    "the variable over the home": ({"home": ["bearer"], "variable": ["bearer"]}, OLD, ("bearer", "variable")),
    "the project over the variable": ({"project": ["bearer"], "variable": ["bearer"]}, OLD, ("bearer", "project")),
    "until 2.7.8": ({"project": ["bearer"], "variable": ["bearer"]}, (2, 7, 8), ("bearer", "variable")),
    "a version that is not known": ({"project": ["bearer"], "variable": ["bearer"]}, (), ("bearer", "variable")),
    "a later method over a stronger source": (
        {"home": ["bearer"], "project": ["http-basic"]},
        OLD,
        ("bearer", "home"),
    ),
    "a method that it does not know": ({"home": ["http-basic", "forgejo-token"]}, MIDDLE, ("http-basic", "home")),
    "headers that it knows": ({"home": ["http-basic", "custom-headers"]}, NEW, ("custom-headers", "home")),
    "headers that it does not know": ({"home": ["custom-headers"]}, MIDDLE, None),
}


@pytest.mark.parametrize("case", CASES)
def test_composer_sends_the_credential_that_it_loads_last(case: str) -> None:
    held, version, expected = CASES[case]
    sources = {
        name: Source(name, {method: {"a.org": "x"} for method in held.get(name, [])})
        for name in ("home", "variable", "project")
    }
    variable = sources["variable"] if "variable" in held else None
    ordered = order_sources([sources["home"]], variable, [sources["project"]], version)
    winner = find_winners(ordered, version).get("a.org")
    assert winner == (Winner("a.org", *expected) if expected else None)


def test_a_stronger_map_of_headers_hides_the_other_whole() -> None:
    """Until Composer 2.11, which merges them."""
    weak = Source("weak", {"custom-headers": {"a.org": ["A: 1"]}, "http-basic": {"a.org": {}}})
    strong = Source("strong", {"custom-headers": {"b.org": ["B: 1"]}})
    for version, method in (((2, 10, 3), "http-basic"), ((2, 11, 0), "custom-headers")):
        winners = find_winners([weak, strong], version)
        assert winners["a.org"] == Winner("a.org", method, "weak")
        assert winners["b.org"] == Winner("b.org", "custom-headers", "strong")
