"""What secrets become: the private Composer home, COMPOSER_AUTH, variables, and what other renderers may add."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from ic_secrets.build.render import RenderContext, Rendered, render_environment, render_home, render_others
from ic_secrets.build.secrets import BuildSecret, BuildSecrets
from ic_secrets.composer.auth_json import Document
from ic_secrets.composer.home import ComposerHome
from ic_secrets.core.collector import ErrorCollector
from ic_secrets.core.notices import Notice
from ic_secrets.errors import BuildError, MalformedAuthError
from ic_secrets.model.secret import SecretType, SecretValue, Target
from ic_secrets.model.variables import Preserve
from unit.test_build_secrets import Composer, make

HOST = "repo.example.org"
SECRETS = make((f"http-basic.{HOST}", SecretType.COMPOSER, "deploy a-word"), ("TOKEN", SecretType.ENV, "a-token"))
OURS = {"username": "deploy", "password": "a-word"}


@pytest.fixture
def home(tmp_path: Path) -> ComposerHome:
    return ComposerHome(str(tmp_path), str(tmp_path / "cache"), str(tmp_path))


def test_the_users_credentials_stay_but_for_the_hosts_of_secrets(home: ComposerHome) -> None:
    theirs = {"bearer": {HOST: "theirs", "other.example.org": "kept"}}
    Path(home.path, "auth.json").write_text(json.dumps(theirs))
    rendered = render_home(SECRETS, home, {}, Composer(None), lambda notice: None)
    assert rendered.files == {"auth.json": {"bearer": {"other.example.org": "kept"}, "http-basic": {HOST: OURS}}}
    assert (rendered.variables, repr(rendered)) == ({}, "RenderedHome(['auth.json'])")


@pytest.mark.parametrize(("version", "is_moved"), [("2.10.0", True), ("2.11.0", False)])
def test_composer_auth_loses_what_secrets_set(home: ComposerHome, version: str, is_moved: bool) -> None:
    """Its headers move into auth.json where they would hide those in there."""
    secrets = make((f"custom-headers.{HOST}", SecretType.COMPOSER, "X-Key: value"))
    other = {"other.example.org": ["A: b"]}
    inherited = {"custom-headers": {HOST: ["A: b"], **other}, "bearer": {HOST: "x", "a.org": "y"}}
    notices: list[Notice] = []
    given = {"COMPOSER_AUTH": json.dumps(inherited)}
    rendered = render_home(secrets, home, given, Composer(version), notices.append)
    ours: Document = {HOST: ["X-Key: value"]}
    assert rendered.files["auth.json"] == {"custom-headers": ours | (other if is_moved else {})}
    left = {"bearer": {"a.org": "y"}} if is_moved else {"custom-headers": other, "bearer": {"a.org": "y"}}
    assert json.loads(rendered.variables["COMPOSER_AUTH"]) == left
    assert [notice.text for notice in notices] == [
        f"COMPOSER_AUTH also had a credential for {HOST}; the secret is used instead"
    ]


@pytest.mark.parametrize(
    ("config", "expected"),
    [
        ({"config": {"bearer": {HOST: "x"}, "preferred-install": "dist"}}, {"config": {"preferred-install": "dist"}}),
        ({"config": {"bearer": {"a.org": "x"}}}, None),
        ({"config": []}, None),
    ],
    ids=["a secret's host", "another host", "empty"],
)
def test_a_config_file_is_copied_only_to_take_a_credential_out(
    home: ComposerHome, config: Document, expected: Document | None
) -> None:
    Path(home.path, "config.json").write_text(json.dumps(config))
    notices: list[Notice] = []
    rendered = render_home(SECRETS, home, {}, Composer(None), notices.append)
    assert rendered.files.get("config.json") == expected
    assert len(notices) == (expected is not None)


@pytest.mark.parametrize("broken", ["auth.json", "config.json", "COMPOSER_AUTH"])
def test_what_composer_would_fail_on_is_refused_without_its_text(home: ComposerHome, broken: str) -> None:
    text = '{"bearer": {"a.org": "a-canary"'
    environment = {"COMPOSER_AUTH": text} if broken == "COMPOSER_AUTH" else {}
    if not environment:
        Path(home.path, broken).write_text(text)
    with pytest.raises(MalformedAuthError, match=broken) as caught:
        render_home(SECRETS, home, environment, Composer(None), lambda notice: None)
    assert "canary" not in str(caught.value)
    errors = ErrorCollector()
    rendered = render_home(SECRETS, home, environment, Composer(None), lambda notice: None, errors)
    assert rendered.files["auth.json"] == {"http-basic": {HOST: OURS}}
    assert len(errors.errors) == 1


def test_a_file_that_cannot_be_read_is_an_error(home: ComposerHome) -> None:
    Path(home.path, "auth.json").write_bytes(b"\xff")
    with pytest.raises(MalformedAuthError, match="is not UTF-8"):
        render_home(SECRETS, home, {}, Composer(None), lambda notice: None)


def test_a_preserved_variable_wins_and_is_named() -> None:
    notices: list[Notice] = []
    rendered = render_environment(SECRETS, {"TOKEN": "theirs"}, Preserve(everything=True), notices.append)
    assert rendered.variables == {}
    assert [notice.text for notice in notices] == [
        "TOKEN was set already and is preserved; the secret of that name is not used"
    ]


WRONG = {
    "a file of ours": (Rendered({"composer/x": b""}), "may not write the file 'composer/x'"),
    "outside": (Rendered({"../x": b""}), "may not write the file '../x'"),
    "an absolute path": (Rendered({"/x": b""}), "may not write"),
    "a file in the place of a directory": (Rendered({"a": b"", "a/x": b""}), "may not write"),
    "another's file": (Rendered({"other/x": b""}), "may not write"),
    "a long name": (Rendered({"x" * 256: b""}), "may not write"),
    "half a character": (Rendered({"\ud800": b""}), "may not write"),
    "a NUL in a path": (Rendered({"x\0": b""}), "may not write"),
    "a secret's variable": (Rendered(variables={"TOKEN": "x"}), "may not set the variable 'TOKEN'"),
    "another's variable": (Rendered(variables={"OTHER": "x"}), "may not set"),
    "the path": (Rendered(variables={"PATH": "x"}), "may not set"),
    "the loader's": (Rendered(variables={"LD_PRELOAD": "x"}), "may not set"),
    "no name": (Rendered(variables={"A-B": "x"}), "may not set"),
    "a NUL in a value": (Rendered(variables={"A": "\0"}), "may not set"),
    "half a character in a value": (Rendered(variables={"A": "\ud800"}), "may not set"),
    "a path without a file": (Rendered({"a/x": b""}, paths={"A": "b"}), "names 'b', but writes no file there"),
    "a value in a name": (Rendered({"../a-token": b""}), "may not write the file '../\\*\\*\\*'"),
}


@pytest.mark.parametrize("wrong", WRONG)
def test_a_renderer_adds_only_what_is_its_own(wrong: str) -> None:
    rendered, message = WRONG[wrong]
    context = RenderContext(Target("my-site", "dev"), "/project", SECRETS, {})
    others = [("another", lambda _: Rendered({"other/x": b""}, {"OTHER": "x"})), ("mine", lambda _: rendered)]
    with pytest.raises(BuildError, match=f"mine {message}"):
        render_others(context, Rendered(), others)


def test_renderers_see_the_variables_of_those_before_and_all_is_added() -> None:
    seen = []

    def render(context: RenderContext) -> Rendered:
        seen.append(dict(context.environment))
        return Rendered({"a/x": b"x"}, {f"V{len(seen)}": "v"}, {"A": "a"}) if len(seen) == 1 else Rendered()

    context = RenderContext(Target("my-site", "dev"), "/project", BuildSecrets(), {"IN": "1"})
    ours = Rendered(variables={"TOKEN": "t"})
    whole = render_others(context, ours, [("first", render), ("second", render)])
    assert whole == Rendered({"a/x": b"x"}, {"TOKEN": "t", "V1": "v"}, {"A": "a"})
    assert seen == [{"IN": "1", "TOKEN": "t"}, {"IN": "1", "TOKEN": "t", "V1": "v"}]
    assert "'v'" not in repr(whole)


def test_a_secret_is_not_shown_by_what_is_made_of_it() -> None:
    secret = BuildSecret.make("TOKEN", SecretType.ENV, SecretValue("a-canary"), source="my-site")
    assert "canary" not in repr((secret, BuildSecrets([secret]), Rendered(variables={"TOKEN": "a-canary"})))
