"""Composer mints a token while it builds: masked like any secret, kept nowhere, and the user's home is not written."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest

from searching import Found, encodings
from servers.bitbucket import PACKAGE, URL, Bitbucket, start_bitbucket
from watching import ArgumentWatch

Search = Callable[..., list[Found]]
INSTALL = ("composer", "install", "--no-interaction", "--no-progress", "--no-ansi")

TELL = """<?php
$auth = json_decode(file_get_contents(getenv('COMPOSER_HOME') . '/auth.json'), true);
$token = $auth['bitbucket-oauth']['bitbucket.org']['access-token'];
echo 'digest: ', hash('sha256', $token), "\\n";
echo 'plain: ', $token, "\\n";
echo 'base64: ', base64_encode($token), "\\n";
echo 'pair: ', base64_encode("x-token-auth:$token"), "\\n";
fwrite(STDERR, "to the other stream: $token\\n");
if (getenv('LEAK')) {
    file_put_contents('vendor/x', "token = $token\\n");
}
"""


@pytest.fixture(scope="module")
def server() -> Iterator[Bitbucket]:
    with start_bitbucket() as started:
        yield started


@pytest.fixture
def bitbucket(server: Bitbucket, home: dict[str, str]) -> Bitbucket:
    """The server, which the builds of this test are led to."""
    server.requests.clear()
    home |= server.environment
    return server


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A project with a package from Bitbucket, and a script that tells the token in several ways."""
    path = tmp_path / "project"
    path.mkdir()
    (path / "tell.php").write_text(TELL)
    manifest = {
        "repositories": [{"type": "vcs", "url": URL}, {"packagist.org": False}],
        "require": {PACKAGE: "^1.0"},
        "scripts": {"post-install-cmd": "@php tell.php", "post-update-cmd": "@php tell.php"},
    }
    (path / "composer.json").write_text(json.dumps(manifest, indent=4) + "\n")  # as Composer itself writes it
    return path


@pytest.fixture
def store(cli: Any, bitbucket: Bitbucket, private: Path) -> None:
    """A store whose site `my-site` has the consumer."""
    cli("init", check=0)
    name = ("set", "my-site", bitbucket.secret_name, "--type", "composer", "--scope", "ic")
    cli(*name, stdin=bitbucket.secret_value, check=0)


@pytest.fixture
def users_home(home: dict[str, str]) -> Path:
    """The user's Composer home, with credentials of their own: an older token for the same host among them."""
    path = Path(home["XDG_CONFIG_HOME"]) / "composer"
    path.mkdir(parents=True)
    older = {
        "consumer-key": "key-of-the-user",
        "consumer-secret": "consumer-of-the-user",
        "access-token": "older-token-of-the-user",
        "access-token-expiration": 4_000_000_000,
    }
    auth = {"bitbucket-oauth": {"bitbucket.org": older}, "bearer": {"repo.example.org": "bearer-of-the-user"}}
    (path / "auth.json").write_text(json.dumps(auth))
    (path / "config.json").write_text('{"config": {"process-timeout": 600}}')
    return path


def snapshot(directory: Path) -> dict[str, tuple[bytes | str, int]]:
    """Every file and link below, with its bytes and its mode."""
    return {
        str(path.relative_to(directory)): (
            os.readlink(path) if path.is_symlink() else path.read_bytes() if path.is_file() else "",
            path.lstat().st_mode,
        )
        for path in directory.rglob("*")
    }


def assert_untouched(before: dict[str, Any], after: dict[str, Any]) -> None:
    assert {name: after.get(name) for name in before} == before
    assert after.keys() - before.keys() <= {".htaccess"}, "which Composer puts into every home"


def assert_masked(bitbucket: Bitbucket, output: bytes) -> None:
    assert [form for needle in bitbucket.needles for form, text in encodings(needle) if text in output] == []


@pytest.mark.parametrize("verbosity", ["--quiet", "-v", "-vvv"])
def test_a_minted_token_is_masked_and_left_nowhere(
    cli: Any,
    store: None,
    bitbucket: Bitbucket,
    users_home: Path,
    project: Path,
    tmp_path: Path,
    private: Path,
    search_tree: Search,
    verbosity: str,
) -> None:
    before, manifest = snapshot(users_home), (project / "composer.json").read_bytes()
    receipt = tmp_path / "receipt.json"
    done = cli("run", "--receipt", receipt, "my-site.dev", "--", *INSTALL, verbosity, cwd=project, check=0)
    assert bitbucket.mints == 1
    assert (project / "vendor" / PACKAGE / "widget.php").is_file()
    if verbosity != "--quiet":
        digest = hashlib.sha256(bitbucket.token.encode()).hexdigest()
        lines = done.stdout.decode().splitlines()
        told = lines[lines.index(f"digest: {digest}") + 1 :]
        assert told[:2] == ["plain: ***", "base64: ***"]
        assert told[2].startswith("pair: ")
        assert told[2].endswith("***")
        assert b"to the other stream: ***\n" in done.stderr
    assert_masked(bitbucket, done.stdout + done.stderr)
    assert_untouched(before, snapshot(users_home))
    assert (project / "composer.json").read_bytes() == manifest
    assert json.loads(receipt.read_text())["minted"] == [bitbucket.secret_name]
    assert list(private.iterdir()) == []
    assert search_tree([tmp_path, Path("/dev/shm")], bitbucket.needles) == []


def test_a_minted_token_that_the_build_writes_down_gives_120_and_the_place(
    cli: Any, store: None, bitbucket: Bitbucket, users_home: Path, project: Path, tmp_path: Path
) -> None:
    before, receipt = snapshot(users_home), tmp_path / "receipt.json"
    env = {"LEAK": "1"}
    done = cli("run", "--receipt", receipt, "my-site.dev", "--", *INSTALL, cwd=project, env=env)
    assert done.returncode == 120
    leak = project / "vendor" / "x"
    assert f"error: {bitbucket.secret_name} was left behind in {leak}:1 (raw)" in done.stderr.decode().splitlines()
    findings = json.loads(receipt.read_text())["leaks"]["findings"]
    assert {(finding["path"], finding["secret"]) for finding in findings} == {(str(leak), bitbucket.secret_name)}
    assert_masked(bitbucket, done.stdout + done.stderr + receipt.read_bytes())
    assert_untouched(before, snapshot(users_home))


def test_a_token_minted_for_the_users_own_consumer_is_kept_nowhere_either(
    cli: Any, bitbucket: Bitbucket, project: Path, tmp_path: Path, private: Path, search_tree: Search
) -> None:
    """Composer stores it in the auth.json of its home, even where the consumer came by COMPOSER_AUTH alone."""
    cli("init", check=0)
    cli("site", "set", "my-site", check=0)
    env = {"COMPOSER_AUTH": json.dumps(bitbucket.auth)}
    done = cli("run", "my-site.dev", "--", *INSTALL, cwd=project, env=env, check=0)
    assert bitbucket.mints == 1
    assert_masked(bitbucket, done.stdout + done.stderr)
    assert list(private.iterdir()) == []
    assert search_tree([tmp_path, Path("/dev/shm")], bitbucket.needles) == []


def test_a_minted_token_stays_out_of_gits_arguments_and_configuration(
    cli: Any,
    store: None,
    bitbucket: Bitbucket,
    users_home: Path,
    project: Path,
    tmp_path: Path,
    search_tree: Search,
) -> None:
    """From source, git needs the token that only Composer has."""
    before = snapshot(users_home)
    with ArgumentWatch([bitbucket.token.encode(), quote(bitbucket.token, safe="").encode()]) as watch:
        done = cli("run", "my-site.dev", "--", *INSTALL, "--prefer-source", cwd=project, check=0)
    assert any(request.path.startswith(f"/{PACKAGE}.git/") and request.status == 200 for request in bitbucket.requests)
    assert (project / "vendor" / PACKAGE / ".git").is_dir()
    # What Composer calls is ours, which takes the token out at once; what stays is the real git.
    assert not any(b"/usr/bin/git" in seen.split(b"\0") or b"git-remote" in seen for seen in watch.seen)
    assert b"bitbucket.org was in git's arguments" in done.stderr
    assert_masked(bitbucket, done.stdout + done.stderr)
    assert_untouched(before, snapshot(users_home))
    assert search_tree([tmp_path, Path("/dev/shm")], bitbucket.needles) == []
