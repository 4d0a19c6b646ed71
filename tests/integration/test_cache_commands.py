"""Whole commands that go on, or do not, where the server cannot be reached; the server is a real one."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from bao_servers import ROOT, Server, Way, running
from commandline import Cli
from ic_secrets.model.secret import Site
from ic_secrets.stores.openbao.policy import render_policy
from searching import search_tree

DOCS = Path(__file__).parents[2] / "docs"
CANARY = "a-canary-of-a-cache"
BUILD = ("run", "my-site", "--", "sh", "-c", 'echo "it is $TOKEN$INHERITED" | tr a-z A-Z')
BUILT = f"IT IS {CANARY}-SITE{CANARY}-ORG\n".upper().encode()


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with running() as server:
        yield server


@pytest.fixture
def mount(server: Server, cli: Cli) -> str:
    """A store with a site and its organization, a key, and half an hour of cache; the environment names them."""
    mount = server.mount()
    cli("key", "new", check=0)
    cli.home |= {"IC_SECRETS_STORE": server.url(mount), "BAO_TOKEN": ROOT}
    cli("site", "set", "my-site", "--org", "agency", check=0)
    words = ("--type", "env", "--scope", "ic")
    cli("set", "my-site", "TOKEN", *words, stdin=f"{CANARY}-site".encode(), check=0)
    cli("set", "org:agency", "INHERITED", *words, stdin=f"{CANARY}-org".encode(), check=0)
    cli("set", "my-site", "APP", "--type", "runtime", "--scope", "web", stdin=f"{CANARY}-web".encode(), check=0)
    cli("set", "my-site.live", "TOKEN", stdin=f"{CANARY}-live".encode(), check=0)
    cli.home["IC_SECRETS_CACHE"] = "30m"
    return mount


class Switch:
    """What stands before the server: up until it is `down`, and then not waited for long."""

    def __init__(self, cli: Cli) -> None:
        self._cli = cli
        self.down = False

    @property
    def down(self) -> bool:
        return self._down

    @down.setter
    def down(self, down: bool) -> None:
        self._down = down
        self._cli.home["IC_SECRETS_BAO_TIMEOUT"] = "0.3s" if down else "10s"

    def __call__(self, method: str, path: str) -> tuple[int, dict[str, Any]] | None:
        return (0, {}) if self.down else None


@pytest.fixture
def switch(server: Server, mount: str, cli: Cli) -> Iterator[Switch]:
    """Breaks the way to the server, when it says so."""
    switch = Switch(cli)
    with Way(server, switch) as way:
        cli.home["IC_SECRETS_STORE"] = f"bao+{way.address}/{mount}"
        yield switch


def validated(text: str | bytes, schema: str) -> dict[str, Any]:
    """The document, which is as docs/ says."""
    found: dict[str, Any] = json.loads(text)
    jsonschema.validate(found, json.loads((DOCS / f"{schema}.schema.json").read_text()))
    return found


def list_caches(cli: Cli) -> list[Path]:
    directory = Path(cli.home["XDG_CACHE_HOME"], "ic-secrets/secrets")
    return sorted(directory.iterdir()) if directory.exists() else []


def test_a_build_goes_on_without_its_server(cli: Cli) -> None:
    """The server has ended; run, plan and pre-build say that they go by the cache, and of when; so does the receipt."""
    with running() as server:
        cli.home |= {"IC_SECRETS_STORE": server.url(server.mount()), "BAO_TOKEN": ROOT}
        cli("key", "new", check=0)
        cli("site", "set", "my-site", "--org", "agency", check=0)
        for owner, name, value in (("my-site", "TOKEN", "site"), ("org:agency", "INHERITED", "org")):
            stdin = f"{CANARY}-{value}".encode()
            cli("set", owner, name, "--type", "env", "--scope", "ic", stdin=stdin, check=0)
        cli.home["IC_SECRETS_CACHE"] = "1h"
        reached = cli(*BUILD, check=0)
        assert reached.stdout == BUILT
        assert b"cache" not in reached.stderr
        assert validated(cli("plan", "my-site", "--json").stdout, "plan")["cached"] is None
    cli.home["IC_SECRETS_BAO_TIMEOUT"] = "0.3s"
    receipt = cli.cwd / "receipt.json"
    built = cli(*BUILD[:1], "--receipt", receipt, *BUILD[1:], check=0)
    assert built.stdout == BUILT
    assert b"does not answer" in built.stderr
    assert re.search(rb"are those of \d+ seconds? ago, from the cache", built.stderr)
    cached = validated(receipt.read_text(), "receipt")["cached"]
    assert cached["time"].endswith("Z")
    assert "does not answer" in cached["reason"]

    plan = cli("plan", "my-site", "--json", "--", "true", check=0)
    described = validated(plan.stdout, "plan")
    assert described["cached"] == cached
    assert {row["name"]: row["source"] for row in described["secrets"]} == {
        "TOKEN": "my-site",
        "INHERITED": "org:agency",
    }
    assert b"from the cache" in cli("plan", "my-site", "--", "true", check=0).stderr

    begun = cli("pre-build", "my-site", "--format", "json", check=0)
    assert json.loads(begun.stdout)["set"]["TOKEN"] == f"{CANARY}-site"
    assert b"from the cache" in begun.stderr
    cli("post-build", "--receipt", receipt, check=0)
    assert validated(receipt.read_text(), "receipt")["cached"] == cached


def test_a_build_of_a_python_program_goes_on_too(switch: Switch, cli: Cli) -> None:
    """And tells it as every other notice."""
    cli(*BUILD, check=0)
    switch.down = True
    program = (
        "from ic_secrets import open_build\n"
        "with open_build('my-site', notify=lambda notice: print(notice.text)) as build:\n"
        f"    assert build.env['TOKEN'] == '{CANARY}-site'\n"
        "print(build.receipt['cached']['reason'])\n"
    )
    done = subprocess.run([sys.executable, "-c", program], env=cli.home, cwd=cli.cwd, capture_output=True, check=False)
    lines = done.stdout.decode().splitlines()
    assert done.returncode == 0, done.stderr.decode()
    assert "from the cache" in lines[0]
    assert lines[0].startswith(lines[-1])


def test_nothing_but_a_build_goes_by_the_cache(switch: Switch, cli: Cli) -> None:
    cli(*BUILD, check=0)
    switch.down = True
    cli(*BUILD, check=0)
    for words in (
        ["list", "my-site"],
        ["get", "my-site", "TOKEN"],
        ["explain", "my-site"],
        ["mask", "my-site"],
        ["scan", "my-site", "."],
        ["export", "my-site", "--format", "yaml", "--without-values"],
        ["site", "show", "my-site"],
        ["set", "my-site", "TOKEN", "--from-env", "HOME"],
        ["delete", "my-site", "TOKEN"],
    ):
        done = cli(*words, check=1)
        assert b"does not answer" in done.stderr, words
        assert CANARY.encode() not in done.stdout + done.stderr
    assert cli("run", "--scope", "web", "my-site", "--", "true").returncode == 125
    for other in ("my-site.live", "my-site.other", "another"):
        done = cli("run", other, "--", "true", check=125)
        assert f"the cache has nothing of {other}".encode() in done.stderr


def test_no_value_is_in_a_cache_in_the_clear(mount: str, cli: Cli) -> None:
    """One file, of this person alone; and what this build does not see is not even named in it."""
    cli(*BUILD, check=0)
    (cache,) = list_caches(cli)
    assert (cache.stat().st_mode & 0o777, cache.parent.stat().st_mode & 0o777) == (0o600, 0o700)
    assert search_tree([cache.parent.parent], [CANARY.encode()]) == []
    text = cache.read_text()
    assert all(name in text for name in ("my-site", "TOKEN", "org:agency", "INHERITED"))
    assert "APP" not in text
    assert "live" not in text


def test_a_plan_tells_as_much_as_the_token_may_see(server: Server, mount: str, cli: Cli) -> None:
    """To whoever may read all of the site, also what the build does not get; a build's own token is enough for it."""
    token = server.token(render_policy(mount, Site("my-site", "agency"), "build"))
    names = []
    for each in (ROOT, token):
        plan = validated(
            cli("plan", "my-site", "--json", "--", "true", env={"BAO_TOKEN": each}, check=0).stdout, "plan"
        )
        names.append({row["name"]: row["state"] for row in plan["secrets"]})
    assert names[0] == {"APP": "dropped", "INHERITED": "used", "TOKEN": "used"}
    assert names[1] == {"INHERITED": "used", "TOKEN": "used"}


def test_a_token_that_is_revoked_takes_the_cache_with_it(server: Server, mount: str, switch: Switch, cli: Cli) -> None:
    """A build's own token does all of this; afterwards an outage does not bring it back."""
    cli.home["BAO_TOKEN"] = token = server.token(render_policy(mount, Site("my-site", "agency"), "build"))
    cli(*BUILD, check=0)
    cli("plan", "my-site", "--", "true", check=0)
    assert len(list_caches(cli)) == 1
    server.ask("POST", "auth/token/revoke", {"token": token})
    refused = cli(*BUILD, check=125)
    assert b"does not accept the token" in refused.stderr
    assert list_caches(cli) == []
    switch.down = True
    assert b"the cache has nothing of my-site.dev" in cli(*BUILD, check=125).stderr


@pytest.mark.parametrize("words", [("run", "my-site", "--", "true"), ("plan", "my-site"), ("pre-build", "my-site")])
def test_whatever_builds_forgets_what_it_may_not_have_any_more(mount: str, cli: Cli, words: tuple[str, ...]) -> None:
    cli(*BUILD, check=0)
    assert cli(*words, env={"BAO_TOKEN": "another"}).returncode in (1, 125)
    assert list_caches(cli) == []


def test_a_refused_login_takes_the_cache_with_it_and_an_outage_of_it_does_not(
    server: Server, mount: str, switch: Switch, cli: Cli
) -> None:
    server.ask("POST", "sys/auth/approle", {"type": "approle"})
    policy = render_policy(mount, Site("my-site", "agency"), "build")
    server.ask("PUT", "sys/policies/acl/for-a-login", {"policy": policy})
    server.ask("POST", "auth/approle/role/builder", {"token_policies": ["for-a-login"]})
    role = server.ask("GET", "auth/approle/role/builder/role-id")["data"]["role_id"]
    del cli.home["BAO_TOKEN"]
    cli.home["IC_SECRETS_BAO_ROLE_ID"] = role
    cli.home["IC_SECRETS_BAO_SECRET_ID"] = server.ask("POST", "auth/approle/role/builder/secret-id")["data"][
        "secret_id"
    ]
    cli(*BUILD, check=0)
    switch.down = True
    done = cli(*BUILD, check=0)
    assert (done.stdout, b"from the cache" in done.stderr) == (BUILT, True)
    switch.down = False
    assert b"refuses the login" in cli(*BUILD, check=125, env={"IC_SECRETS_BAO_SECRET_ID": "another"}).stderr
    assert list_caches(cli) == []


def test_what_is_gone_on_the_server_is_gone_from_the_cache(mount: str, switch: Switch, cli: Cli) -> None:
    cli(*BUILD, check=0)
    cli("delete", "my-site", "TOKEN", check=0)
    cli(*BUILD, check=0)
    switch.down = True
    assert cli(*BUILD, check=0).stdout == f"IT IS {CANARY}-ORG\n".upper().encode()
    switch.down = False
    cli("site", "delete", "my-site", check=0)
    assert b"does not know the site my-site" in cli(*BUILD, check=125).stderr
    assert list_caches(cli) == []


def test_what_has_expired_stays_so(mount: str, switch: Switch, cli: Cli) -> None:
    cli("set", "my-site", "TOKEN", "--expires", "2099-01-01", stdin=b"a-canary-that-ends", check=0)
    cli(*BUILD, check=0)
    switch.down = True
    rows = json.loads(cli("plan", "my-site", "--json", "--", "true", check=0).stdout)["secrets"]
    assert {row["name"]: row["expires"] for row in rows}["TOKEN"] == "2099-01-01T23:59:59Z"
    done = cli(*BUILD, env={"IC_SECRETS_EXPIRY_WARNING": "40000d"}, check=0)
    assert b"TOKEN of my-site expires in" in done.stderr


@pytest.mark.parametrize("value", [None, "0"])
def test_without_the_setting_nothing_is_kept_or_used(switch: Switch, cli: Cli, value: str | None) -> None:
    """Not even what an earlier build kept."""
    cli(*BUILD, check=0)
    before = [path.read_bytes() for path in list_caches(cli)]
    del cli.home["IC_SECRETS_CACHE"]
    more = {"IC_SECRETS_CACHE": value} if value else {}
    cli(*BUILD, env=more, check=0)
    assert [path.read_bytes() for path in list_caches(cli)] == before
    switch.down = True
    assert b"does not answer" in cli(*BUILD, env=more, check=125).stderr


def test_another_namespace_or_key_is_another_cache(switch: Switch, cli: Cli, tmp_path: Path) -> None:
    cli(*BUILD, check=0)
    switch.down = True
    assert b"has nothing of" in cli(*BUILD, env={"BAO_NAMESPACE": "team"}, check=125).stderr
    cli("key", "new", "--key-file", tmp_path / "other", check=0)
    done = cli(*BUILD, env={"IC_SECRETS_KEY_FILE": str(tmp_path / "other")}, check=125)
    assert b"is sealed with the key" in done.stderr
    assert cli(*BUILD, check=0).stdout == BUILT


def test_a_cache_needs_a_key(mount: str, cli: Cli) -> None:
    """Said before the server is asked, and with what makes one."""
    key = Path(cli.home["XDG_CONFIG_HOME"], "ic-secrets/key")
    key.unlink()
    done = cli(*BUILD, check=125)
    assert b"`cache` keeps nothing unsealed" in done.stderr
    assert b"`ic-secrets key new` makes one" in done.stderr
    cli("key", "new", check=0)
    cli(*BUILD, check=0)


def test_a_cache_that_cannot_be_written_is_reported_and_hinders_no_build(mount: str, switch: Switch, cli: Cli) -> None:
    """Here somebody made its directory a link elsewhere."""
    elsewhere = cli.cwd / "elsewhere"
    elsewhere.mkdir()
    link = Path(cli.home["XDG_CACHE_HOME"], "ic-secrets/secrets")
    link.parent.mkdir()
    link.symlink_to(elsewhere)
    done = cli(*BUILD, check=0)
    assert done.stdout == BUILT
    assert b"are not kept for when the server cannot be reached" in done.stderr
    assert b"is a symbolic link" in done.stderr
    assert list(elsewhere.iterdir()) == []


def test_a_checkout_does_not_decide_it(mount: str, cli: Cli) -> None:
    (cli.cwd / "ic-secrets.toml").write_text('cache = "7d"\n')
    done = cli(*BUILD, check=125)
    assert b"a checkout may not set cache" in done.stderr


def test_scrub_removes_what_is_too_old(mount: str, cli: Cli) -> None:
    """Or all, where it has to, or where the setting is gone; and nothing else that lies there."""
    cli(*BUILD, check=0)
    (cache,) = list_caches(cli)
    (cache.parent / "notes.txt").write_text("mine")
    (cache.parent / f"{'0' * 32}.sealed.new").write_text("half")
    report = json.loads(cli("scrub", "--json", check=0).stdout)
    assert report["removed"] == [str(cache.parent / f"{'0' * 32}.sealed.new")]
    for words, more in (([], {"IC_SECRETS_CACHE": "0"}), (["--cache"], {}), ([], None)):
        cli(*BUILD, check=0)
        if more is None:
            os.utime(cache, (1_700_000_000, 1_700_000_000))
        assert cache.exists()
        cli("scrub", *words, env=more or {}, check=0)
        assert list_caches(cli) == [cache.parent / "notes.txt"]
