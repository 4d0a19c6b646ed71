"""What is decided before anything is exposed: which secrets, which warnings, and what the build is given."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from ic_secrets.build.prepare import Loaded, PreparedBuild, prepare
from ic_secrets.build.receipt import describe_cached, describe_secret
from ic_secrets.build.request import BuildRequest
from ic_secrets.core.notices import Notice
from ic_secrets.errors import UnknownSecretError
from ic_secrets.model.resolve import Holdings
from ic_secrets.model.secret import Owner, Scope, Secret, SecretType, SecretValue, Site, Target
from ic_secrets.model.variables import Preserve
from ic_secrets.stores.base import Cached, ReadOnlyStore

ENV, COMPOSER = SecretType.ENV, SecretType.COMPOSER
HOST = "repo.example.org"
AUTH = json.dumps({"bearer": {"other.example.org": "a-word"}})


class OneSite(ReadOnlyStore):
    """A store with one site."""

    url = "fixed:"

    def __init__(self, *secrets: tuple[str, SecretType, str]) -> None:
        self.secrets = secrets

    def site(self, name: str) -> Site:
        return Site(name)

    def sites(self) -> Iterator[Site]:
        return iter([Site("my-site")])

    def owners(self) -> Iterator[Owner]:
        return iter([Owner.site("my-site")])

    def read(
        self, owner: Owner, *, environment: str | None = None, scope: Scope | None = None, values: bool = True
    ) -> Holdings:
        scopes = frozenset({Scope.IC})
        return Holdings(
            owner,
            tuple(Secret(name, owner, name, kind, scopes, SecretValue(text)) for name, kind, text in self.secrets),
        )


class Preparing:
    """Prepares builds in a project, where no program is found, and keeps the notices."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.texts: list[str] = []
        self.environment = {"HOME": str(directory / "home"), "PATH": str(directory / "bin")}

    def __call__(self, store: OneSite, **asked: object) -> PreparedBuild:
        environment = self.environment | asked.pop("environment", {})
        request = BuildRequest(Target("my-site", "dev"), (), str(self.directory), environment, **asked)
        return prepare(store, request, self.keep)

    def keep(self, notice: Notice) -> None:
        self.texts.append(notice.text)


@pytest.fixture
def preparing(tmp_path: Path) -> Preparing:
    return Preparing(tmp_path)


def test_a_build_shows_its_target_alone(preparing: Preparing) -> None:
    prepared = preparing(OneSite(("TOKEN", ENV, "a-canary")))
    assert repr(prepared) == "PreparedBuild(my-site.dev)"
    assert prepared.environment["TOKEN"] == "a-canary"


def test_a_name_to_leave_out_that_is_not_there_is_mentioned(preparing: Preparing) -> None:
    """It may have been deleted since; a misspelt one is seen."""
    prepared = preparing(
        OneSite(("TOKEN", ENV, "a-value"), ("KEY", ENV, "b-value")), excluded=frozenset({"TOKEN", "X"})
    )
    assert [secret.name for secret in prepared.secrets] == ["KEY"]
    assert preparing.texts == ["my-site.dev has no secret X that could be left out"]
    with pytest.raises(UnknownSecretError, match="no secret X that a build gets"):
        preparing(OneSite(), only=frozenset({"X"}))


@pytest.mark.parametrize("is_preserved", [True, False])
def test_a_preserved_composer_auth_wins_over_the_secret_of_that_name(preparing: Preparing, is_preserved: bool) -> None:
    theirs = json.dumps({"bearer": {"third.example.org": "another"}})
    prepared = preparing(
        OneSite(("COMPOSER_AUTH", ENV, AUTH)),
        environment={"COMPOSER_AUTH": theirs},
        preserve=Preserve(names=frozenset({"COMPOSER_AUTH"} if is_preserved else ())),
    )
    assert ("bearer" in prepared.auth) is not is_preserved
    assert json.loads(prepared.environment["COMPOSER_AUTH"]) == json.loads(theirs)


def test_a_composer_auth_is_described_by_its_hosts(preparing: Preparing) -> None:
    """It is taken apart, so the receipt says that it went to auth.json and git, and to which hosts."""
    prepared = preparing(OneSite(("COMPOSER_AUTH", ENV, AUTH)))
    described = describe_secret(prepared.secrets[0], prepared)
    assert described["destination"] == {"auth_json": True, "git_helper": True, "hosts": ["other.example.org"]}


@pytest.mark.parametrize(
    ("answered", "said", "described"),
    [
        (None, [], None),
        (
            Cached(None, "the disk is full"),
            ["the secrets are not kept for when the server cannot be reached: the disk is full"],
            None,
        ),
        (
            Cached(0, "it does not answer"),
            ["it does not answer; the secrets are those of "],
            {"time": "1970-01-01T00:00:00Z", "reason": "it does not answer"},
        ),
    ],
)
def test_secrets_from_a_cache_are_warned_of_and_in_the_receipt(
    preparing: Preparing, answered: Cached | None, said: list[str], described: dict[str, str] | None
) -> None:
    store = OneSite(("TOKEN", ENV, "a-value"))
    store.cached = answered
    loaded: Loaded = preparing(store).loaded
    assert len(preparing.texts) == len(said)
    assert all(text.startswith(start) for text, start in zip(preparing.texts, said, strict=True))
    assert describe_cached(loaded.cached) == described


def test_where_composer_gets_a_home_of_its_own_it_finds_the_credentials_all_the_same(preparing: Preparing) -> None:
    """But for one that it would exchange for a token and store there: that is named."""
    manifest = {"scripts": {"build": "COMPOSER_HOME=.composer composer install"}}
    (preparing.directory / "composer.json").write_text(json.dumps(manifest))
    store = OneSite(
        (f"http-basic.{HOST}", COMPOSER, "deploy a-word"), ("bitbucket-oauth.bitbucket.org", COMPOSER, "consumer a-key")
    )
    prepared = preparing(store)
    assert json.loads(prepared.environment["COMPOSER_AUTH"]) == {
        "http-basic": {HOST: {"username": "deploy", "password": "a-word"}}
    }
    who = "a script of composer.json: Composer gets a home of its own there"
    assert [text for text in preparing.texts if text.startswith(who)] == [
        f"{who}, so the credentials are in COMPOSER_AUTH too",
        f"{who}, and does not find bitbucket-oauth.bitbucket.org",
    ]


def test_where_all_would_be_exchanged_nothing_is_put_into_composer_auth(preparing: Preparing) -> None:
    (preparing.directory / "composer.json").write_text(json.dumps({"scripts": {"b": "COMPOSER_HOME=x composer i"}}))
    prepared = preparing(OneSite(("bitbucket-oauth.bitbucket.org", COMPOSER, "consumer a-key")))
    assert "COMPOSER_AUTH" not in prepared.environment
