"""Logins in the URLs of a project are no secrets of the store, but are masked in the output all the same."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from commandline import Cli

PASSWORD = "pw-EXAMPLE-of-the-project"
USER_TOKEN = "tok7EXAMPLE7of7the7project"


def make_project(path: Path, **manifest: object) -> Path:
    path.mkdir()
    (path / "composer.json").write_text(json.dumps(manifest))
    return path


@pytest.fixture
def site(cli: Cli) -> None:
    cli("init", check=0)
    cli("set", "my-site", "TOKEN", "--type", "env", "--scope", "ic", stdin=b"canary-7Tq2xW9-value", check=0)


def repository(url: str) -> list[dict[str, str]]:
    return [{"type": "vcs", "url": url}]


URLS = {
    "a password": (f"https://user:{PASSWORD}@git.example.org/o/r.git", PASSWORD),
    "an encoded password": ("https://user:pw-EXAMPLE%2Fof%2Fit@git.example.org/o/r.git", "pw-EXAMPLE/of/it"),
    "a token as the user": (f"https://{USER_TOKEN}:x-oauth-basic@git.example.org/o/r.git", USER_TOKEN),
}


@pytest.mark.parametrize(("url", "value"), URLS.values(), ids=URLS.keys())
def test_a_login_in_a_repositorys_url_is_masked_in_the_output(
    cli: Cli, site: None, tmp_path: Path, url: str, value: str
) -> None:
    """In the URL and by itself; its host stays, and that the file holds it is no leak of the build."""
    project = make_project(tmp_path / "project", repositories=repository(url))
    script = f"touch composer.json; grep -o 'https:.*git' composer.json; echo 'it is {value}'"
    done = cli("run", "my-site", "--", "sh", "-c", script, cwd=project, check=0)
    assert b"git.example.org" in done.stdout
    assert b"it is ***\n" in done.stdout
    assert value.encode() not in done.stdout
    assert url.encode() not in done.stdout
    plain = cli("run", "--no-mask", "my-site", "--", "sh", "-c", script, cwd=project, check=0)
    assert f"it is {value}".encode() in plain.stdout


def test_a_login_in_the_lock_is_masked_too(cli: Cli, site: None, tmp_path: Path) -> None:
    project = make_project(tmp_path / "project", require={"o/r": "*"})
    dist = {"type": "zip", "url": f"https://user:{PASSWORD}@git.example.org/r.zip"}
    (project / "composer.lock").write_text(json.dumps({"packages": [{"name": "o/r", "version": "1.0", "dist": dist}]}))
    done = cli("run", "my-site", "--", "sh", "-c", "cat composer.lock", cwd=project, check=0)
    assert b"git.example.org" in done.stdout
    assert PASSWORD.encode() not in done.stdout


@pytest.mark.parametrize("password", ["demo", "password", "x-oauth-basic"])
def test_a_password_that_is_any_word_is_masked_only_beside_its_user(
    cli: Cli, site: None, tmp_path: Path, password: str
) -> None:
    url = f"https://user:{password}@git.example.org/o/r.git"
    project = make_project(tmp_path / "project", repositories=repository(url))
    done = cli("run", "my-site", "--", "sh", "-c", f"echo 'a {password} of it'", cwd=project, check=0)
    assert done.stdout == f"a {password} of it\n".encode()


def test_explain_says_where_the_credentials_in_composer_auth_go(cli: Cli, site: None) -> None:
    value = json.dumps({"bearer": {"repo.example.org": "tok-EXAMPLE-0123456789"}}).encode()
    cli("set", "my-site", "COMPOSER_AUTH", "--type", "env", "--scope", "ic", stdin=value, check=0)
    done = cli("explain", "my-site", "COMPOSER_AUTH", check=0)
    assert b"goes to auth.json and to git, as the credentials in it" in done.stdout
    (answer,) = [json.loads(cli("explain", "my-site", "COMPOSER_AUTH", "--json", check=0).stdout)]
    assert answer["destination"] == {"auth_json": True}
