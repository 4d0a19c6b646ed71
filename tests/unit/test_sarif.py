"""Findings as SARIF 2.1.0: what code-scanning pages need of it, and nothing that they would refuse."""

from __future__ import annotations

import json
from typing import Any
from urllib.parse import urlsplit

import pytest

from ic_secrets.cli.sarif import render
from ic_secrets.leaks.findings import Finding


def render_one(**changes: Any) -> dict[str, Any]:
    finding = Finding("/base/dir/a.php", 3, 40, "TOKEN", "raw")._replace(**changes)
    (result,) = render([finding], "/base")["runs"][0]["results"]
    return result


def test_a_rule_for_each_secret() -> None:
    names = ["TOKEN", "http-basic.repo.example.org", "TOKEN"]
    document = render([Finding(f"/base/{number}", 1, 0, name, "raw") for number, name in enumerate(names)], "/base")
    assert set(document) == {"$schema", "version", "runs"}
    assert document["version"] == "2.1.0"
    (run,) = document["runs"]
    rules = run["tool"]["driver"]["rules"]
    assert [rule["id"] for rule in rules] == ["TOKEN", "http-basic.repo.example.org"]
    for result in run["results"]:
        assert rules[result["ruleIndex"]]["id"] == result["ruleId"]
        assert result["level"] == "error"
        assert result["message"]["text"]


def test_no_findings_are_a_run_without_results() -> None:
    (run,) = render([], "/base")["runs"]
    assert (run["results"], run["tool"]["driver"]["rules"]) == ([], [])


@pytest.mark.parametrize(
    ("changes", "region"),
    [
        ({}, {"startLine": 3}),
        ({"line": None}, {"byteOffset": 40}),
        ({"where": "name", "line": None}, None),
        ({"where": "link", "line": None}, None),
        ({"member": "inside.php"}, None),
    ],
)
def test_regions(changes: dict[str, Any], region: dict[str, int] | None) -> None:
    assert render_one(**changes)["locations"][0]["physicalLocation"].get("region") == region


@pytest.mark.parametrize(
    ("path", "uri"),
    [
        ("/base/dir/a.php", "dir/a.php"),
        ("/base/a b#c%?.php", "a%20b%23c%25%3F.php"),
        ("/base/caf\u00e9/\udcff\n", "caf%C3%A9/%FF%0A"),
        ("/base/a:b", "a%3Ab"),
        ("/base/..a", "..a"),
        ("/elsewhere/a b", "file:///elsewhere/a%20b"),
        ("/basement/a", "file:///basement/a"),
        ("/base/***/f", "%2A%2A%2A/f"),
    ],
)
def test_locations_are_relative_to_the_working_directory(path: str, uri: str) -> None:
    found = render_one(path=path)["locations"][0]["physicalLocation"]["artifactLocation"]["uri"]
    assert found == uri
    assert urlsplit(found).scheme in {"", "file"}


def test_members_are_named_and_half_characters_are_not_in_it() -> None:
    result = render_one(member="in/side\udcff.php")
    assert "in/side\\udcff.php" in result["message"]["text"]
    json.dumps(result, ensure_ascii=False).encode()
