"""What `explain` and `report` print as JSON is what their published schemas describe."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from commandline import Cli

DOCS = Path(__file__).parents[2] / "docs"
VALUE = b"hunter2-canary"
# Owner, name, and what its first `set` says; without that, an override.
SECRETS = [
    ("org:agency", "API_KEY", "--type", "env", "--scope", "ic,user", "--expires", "1d"),
    ("org:agency.dev", "API_KEY"),
    ("my-site", "API_KEY", "--type", "env", "--scope", "user"),
    ("my-site.pr-17", "API_KEY"),
    ("org:agency", "LICENCE", "--type", "env", "--scope", "ic", "--hosts", "a.example.org,b.example.org:8443"),
    ("my-site", "LICENCE", "--type", "env", "--scope", "ic"),
    ("my-site", "SALT", "--type", "runtime", "--scope", "web"),
    ("my-site", "bearer.repo.example.org", "--type", "composer", "--scope", "ic"),
    ("org:agency", "GONE", "--type", "env", "--scope", "ic"),
    ("my-site.dev", "GONE"),
]
NAMES = ["API_KEY", "LICENCE", "SALT", "bearer.repo.example.org", "GONE"]


@pytest.fixture
def filled(cli: Cli) -> Cli:
    """A store with something of every type, scope and verdict."""
    cli("init", check=0)
    cli("site", "set", "my-site", "--org", "agency", check=0)
    cli("site", "set", "bare", check=0)
    for words in SECRETS:
        cli("set", *words, stdin=VALUE, check=0)
    cli("delete", "org:agency", "GONE", check=0)
    return cli


def read(name: str) -> Any:
    schema = json.loads((DOCS / f"{name}.schema.json").read_text())
    jsonschema.Draft202012Validator.check_schema(schema)
    return jsonschema.Draft202012Validator(schema, format_checker=jsonschema.FormatChecker())


@pytest.mark.parametrize("scope", ["ic", "web", "user"])
def test_explain_prints_what_its_schema_describes(filled: Cli, scope: str) -> None:
    validator = read("explain")
    verdicts = set()
    for words in [["my-site"], ["my-site.pr-9"], ["bare"], *(["my-site", name] for name in NAMES)]:
        done = filled("explain", *words, "--scope", scope, "--json", check=0)
        assert VALUE not in done.stdout
        found = json.loads(done.stdout)
        validator.validate(found)
        verdicts |= {each["verdict"] for each in found.get("definitions", [])}
    if scope == "ic":
        for words in [["my-site"], *(["my-site", name] for name in NAMES)]:
            validator.validate(json.loads(filled("explain", *words, "--broker", "--json", check=0).stdout))
        assert verdicts == {"won", "overridden", "shadowed", "out of scope", "other environment", "inert"}


def test_report_prints_what_its_schema_describes(filled: Cli) -> None:
    done = filled("report", "--json", "--stale", "0s", check=0)
    assert VALUE not in done.stdout
    found = json.loads(done.stdout)
    read("report").validate(found)
    assert [each["owner"] for each in found["owners"]] == ["bare", "my-site", "org:agency"]
    assert set(found["counts"]["findings"]) >= {"soon", "unused", "shadowed", "inert"}


@pytest.mark.parametrize("name", ["explain", "report"])
def test_a_schema_refuses_what_it_does_not_name(filled: Cli, name: str) -> None:
    words = ["explain", "my-site"] if name == "explain" else ["report"]
    found = json.loads(filled(*words, "--json", check=0).stdout)
    with pytest.raises(jsonschema.ValidationError):
        read(name).validate({**found, "value": "hunter2"})
