"""The variables of later steps on GitHub: read back as its runner reads them, and masked before they are written."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from ic_secrets.build.secrets import BuildSecret, BuildSecrets
from ic_secrets.errors import ExposureError, ReservedNameError
from ic_secrets.model.secret import SecretType, SecretValue
from ic_secrets.two_steps import github
from ic_secrets.two_steps.shells import Change


def secrets(name: str, kind: SecretType, text: str) -> BuildSecrets:
    return BuildSecrets([BuildSecret.make(name, kind, SecretValue(text), source="my-site")])


def read_as_the_runner(text: str) -> dict[str, str]:
    """GITHUB_ENV as actions/runner reads it (FileCommandManager.cs, EnvFileKeyValuePairs, on Linux)."""
    lines = text.split("\n")
    found = {}
    at = 0
    while at < len(lines):
        line = lines[at]
        at += 1
        if not line:
            continue
        equals, heredoc = line.find("="), line.find("<<")
        if equals >= 0 and (heredoc < 0 or equals < heredoc):
            name, _, found[name] = line.partition("=")
            continue
        assert heredoc >= 0, f"the runner refuses {line!r}"
        name, _, delimiter = line.partition("<<")
        assert name
        assert delimiter
        end = lines.index(delimiter, at)
        found[name] = "\n".join(lines[at:end])
        at = end + 1
    return found


VALUES = {
    "PLAIN": "value",
    "EMPTY": "",
    "LINES": "first\nsecond\n",
    "INJECTED": "x\nEOF\nLD_PRELOAD=/tmp/evil.so\nPATH<<EOF\n/tmp\nEOF",
    "HEREDOC": "ic_secrets_\nNAME<<ic_secrets_0\n",
    "RETURNS": "a\r\nb\r",
    "EQUALS": "=<<=",
}


def test_the_runner_reads_exactly_the_values() -> None:
    assert read_as_the_runner(github.render_variables(VALUES)) == VALUES


def test_a_delimiter_that_occurs_in_a_value_is_not_used(monkeypatch: pytest.MonkeyPatch) -> None:
    guesses = iter([b"\0" * 16, b"\1" * 16])
    monkeypatch.setattr(os, "urandom", lambda _: next(guesses))
    hostile = {"A": "x\nic_secrets_" + "00" * 16 + "\nPATH=/tmp"}
    assert read_as_the_runner(github.render_variables(hostile)) == hostile


def test_a_line_that_somebody_did_not_end_is_ended_first(tmp_path: Path) -> None:
    path = tmp_path / "env"
    path.write_text("BEFORE=1")
    github.append(str(path), github.render_variables({"A": "x"}))
    assert read_as_the_runner(path.read_text()) == {"BEFORE": "1", "A": "x"}


def test_a_file_that_takes_no_more_is_an_error() -> None:
    with pytest.raises(ExposureError, match="GITHUB_ENV cannot be written"):
        github.append("/dev/full", "A=1\n")


def test_masks_are_escaped_a_line_each_and_telling() -> None:
    value = '{\n  "key": "100%-of-a-canary",\r\n  "id": 12\n}\n---\nabc'
    text = github.render_masks(secrets("A", SecretType.ENV, value))
    masks = [line.removeprefix("::add-mask::") for line in text.splitlines()]
    assert all(line.startswith("::add-mask::") for line in text.splitlines())
    assert '"key": "100%25-of-a-canary",' in masks
    assert not {"{", "}", "---", "abc", ""} & set(masks)
    assert not any("%" in mask.replace("%25", "") for mask in masks)


@pytest.mark.parametrize(
    "value", ["\u00e9\u00e8\u00e0", "\U0001f511", "!#$^&*", "abcd"], ids=["accents", "sign", "marks", "letters"]
)
def test_whatever_is_not_warned_of_as_too_short_is_masked(value: str) -> None:
    """It is counted in bytes, as everywhere."""
    exposed = secrets("A", SecretType.ENV, value)
    assert not exposed[0].parts.are_short
    assert f"::add-mask::{value}\n" in github.render_masks(exposed)


def test_the_password_of_a_credential_is_masked_alone_too() -> None:
    exposed = secrets("http-basic.a.org", SecretType.COMPOSER, "deploy a-canary-of-a-password")
    assert "::add-mask::a-canary-of-a-password\n" in github.render_masks(exposed)


@pytest.mark.parametrize("name", ["NODE_OPTIONS", "GITHUB_TOKEN", "RUNNER_TEMP", "ACTIONS_STEP_DEBUG", "github_x"])
def test_a_name_that_the_runner_keeps_to_itself_is_refused(name: str) -> None:
    with pytest.raises(ReservedNameError, match=name):
        github.check_names([name])


def test_the_runners_own_variables_are_left_alone() -> None:
    change = Change.find({"GITHUB_SHA": "1", "KEY": "x"}, {"TOKEN": "t"})
    assert github.leave_out_reserved(change) == ({"TOKEN": "t"}, ("KEY",))


@pytest.mark.parametrize("environment", [{}, {"GITHUB_ENV": ""}, {"GITHUB_ENV": "/nowhere"}, {"GITHUB_ENV": "/"}])
def test_without_a_file_to_write_to_nothing_is_begun(environment: dict[str, str]) -> None:
    with pytest.raises(ExposureError, match="GITHUB_ENV"):
        github.find_file(environment)
