"""What `plan` says of each credential is what each generation of Composer does with it."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import pytest

import predictions

PAIRS = list(itertools.combinations(predictions.SOURCES, 2))


def test_of_two_sources_it_takes_the_one_that_the_plan_names(
    cli: Any, version: str, home: dict[str, str], tmp_path: Path, private: Path
) -> None:
    assert predictions.compare(cli, home, tmp_path, predictions.pairs_of_sources()) == []


@pytest.mark.parametrize("source", predictions.SOURCES)
def test_of_two_methods_it_takes_the_one_that_the_plan_names(
    cli: Any, version: str, home: dict[str, str], tmp_path: Path, private: Path, source: str
) -> None:
    assert predictions.compare(cli, home, tmp_path, predictions.pairs_of_methods(source)) == []


@pytest.mark.parametrize(("first", "second"), PAIRS, ids=["-".join(pair) for pair in PAIRS])
def test_of_headers_in_two_sources_it_takes_those_that_the_plan_names(
    cli: Any, version: str, home: dict[str, str], tmp_path: Path, private: Path, first: str, second: str
) -> None:
    assert predictions.compare(cli, home, tmp_path, predictions.pairs_with_headers(first, second)) == []
