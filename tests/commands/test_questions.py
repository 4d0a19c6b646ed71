"""What a person at a terminal is asked, and a script never."""

from __future__ import annotations

import json

import pytest

from commandline import PROGRAM, Cli
from screen import Screen


@pytest.fixture
def site(cli: Cli) -> Cli:
    """A site with a secret that has two overrides, and one that has none."""
    cli("init", check=0)
    cli("site", "set", "my-site", "--org", "agency", check=0)
    for name in ("KEY", "TOKEN"):
        cli("set", "my-site", name, "--type", "env", "--scope", "ic", stdin=b"canary", check=0)
    for environment in ("dev", "pr-17"):
        cli("set", f"my-site.{environment}", "KEY", stdin=b"canary", check=0)
    return cli


def open_screen(cli: Cli, *words: str) -> Screen:
    return Screen([str(PROGRAM), *words], cli.home | {"NO_COLOR": "1"}, cli.cwd)


def count_secrets(cli: Cli) -> int:
    return len(json.loads(cli("list", "my-site", "--json", check=0).stdout)["secrets"])


@pytest.mark.parametrize(
    ("words", "question"),
    [
        (("site", "delete", "my-site"), r"delete the site my-site with KEY, TOKEN\? \[y/N\]"),
        (("delete", "my-site", "KEY"), r"delete my-site KEY and its overrides for dev, pr-17\? \[y/N\]"),
    ],
)
def test_a_person_is_told_what_goes_and_asked_before_it_does(site: Cli, words: tuple[str, ...], question: str) -> None:
    """Anything but yes leaves it; --yes and scripts are not asked."""
    for answer in ("n", "", "\x04"):
        screen = open_screen(site, *words)
        screen.wait_for(question)
        screen.type(answer if answer == "\x04" else f"{answer}\r")
        screen.wait_for("nothing was deleted")
        assert screen.finish() == 1
    assert count_secrets(site) == 4
    screen = open_screen(site, *words)
    screen.wait_for(question)
    screen.type("y\r")
    screen.wait_for("deleted (my-site KEY and its overrides for dev, pr-17|the site my-site and 4 values: KEY, TOKEN)")
    assert screen.finish() == 0


def test_a_person_who_names_hosts_is_not_asked_for_a_value(site: Cli) -> None:
    """For a secret that exists; a new one has none yet, and a new expiry is one of a new value."""
    screen = open_screen(site, "set", "my-site", "KEY", "--hosts", "a.example.org")
    screen.wait_for("bound my-site KEY to a.example.org; its value stays as it is")
    assert screen.finish() == 0
    for words in (
        ("KEY", "--hosts", "b.example.org", "--expires", "30d"),
        ("NEW", "--type", "env", "--scope", "ic", "--hosts", "b.example.org"),
    ):
        screen = open_screen(site, "set", "my-site", *words)
        screen.wait_for(f"value of {words[0]}:")
        screen.type("typed\r")
        screen.wait_for(f"my-site {words[0]}, bound to b.example.org")
        assert screen.finish() == 0


@pytest.mark.parametrize("words", [("site", "delete", "my-site"), ("delete", "my-site", "KEY")])
def test_yes_and_scripts_are_not_asked(site: Cli, words: tuple[str, ...]) -> None:
    done = site(*words, check=0)
    assert b"[y/N]" not in done.stderr
    assert b"deleted" in done.stderr
    site("set", "my-site", "KEY", "--type", "env", "--scope", "ic", stdin=b"canary", check=0)
    site("set", "my-site.dev", "KEY", stdin=b"canary", check=0)
    screen = open_screen(site, *words, "--yes")
    assert b"[y/N]" not in screen.read_to_end()
    assert screen.finish() == 0


def test_a_delete_says_which_overrides_stay(site: Cli) -> None:
    """Those of the organization's secret are not the site's."""
    site("set", "org:agency", "LICENSE", "--type", "env", "--scope", "ic", stdin=b"canary", check=0)
    site("set", "my-site.dev", "LICENSE", stdin=b"canary", check=0)
    site("set", "my-site", "LICENSE", "--type", "env", "--scope", "ic", stdin=b"canary", check=0)
    done = site("delete", "my-site", "LICENSE", check=0)
    assert done.stderr.decode().splitlines() == [
        "deleted my-site LICENSE (1 value)",
        "its overrides for dev stay: they belong to the organization's LICENSE",
    ]


def test_a_new_organization_is_announced_as_a_new_site_is(site: Cli) -> None:
    """A typing mistake makes one as well."""
    words = ("KEY", "--type", "env", "--scope", "ic")
    assert b"made the site other, which was not" in site("set", "other", *words, stdin=b"canary", check=0).stderr
    told = site("set", "org:agncy", *words, stdin=b"canary", check=0).stderr
    assert b"made the organization agncy, which was not known before" in told
    assert b"made" not in site("set", "org:agncy", "KEY", stdin=b"canary", check=0).stderr
    told = site("site", "set", "other", "--org", "agenncy", check=0).stderr
    assert b"its organization agenncy holds nothing yet" in told
    assert b"nothing" not in site("site", "set", "other", "--org", "agncy", check=0).stderr
    made = json.loads(site("set", "org:new", *words, "--json", stdin=b"canary", check=0).stdout)
    assert (made["site_created"], made["organization_created"]) == (False, True)


def test_a_person_is_asked_for_type_and_scopes_of_a_new_name(site: Cli) -> None:
    """Until the answers are right; then for the value, unseen."""
    screen = open_screen(site, "set", "my-site", "NEW.NAME")
    for question, answer in (("type", "env"), ("type", "runtime"), ("scopes", "all"), ("scopes", "web, user")):
        screen.wait_for(question + r" ?\(.*\):")
        screen.type(f"{answer}\r")
    screen.wait_for("value of NEW.NAME:")
    screen.type("canary-1\r")
    assert b"canary-1" not in screen.read_to_end()
    assert screen.finish() == 0
    assert site("get", "my-site", "NEW.NAME", check=0).stdout == b"canary-1\n"


def test_a_composer_auth_key_needs_no_type_at_a_terminal(site: Cli) -> None:
    """METHOD.HOST says it; a script still has to."""
    screen = open_screen(site, "set", "my-site", "http-basic.repo.example.org")
    screen.wait_for("type: composer")
    screen.wait_for("scopes")
    screen.type("ic\r")
    screen.wait_for("value of")
    screen.type("bot canary\r")
    screen.wait_for("set my-site http-basic.repo.example.org")
    assert screen.finish() == 0
    done = site("set", "my-site", "http-basic.other.example.org", "--scope", "ic", stdin=b"bot canary", check=1)
    assert b"--type T" in done.stderr


def test_an_env_value_from_a_file_keeps_its_last_newline_and_says_so(site: Cli) -> None:
    (site.cwd / "key.txt").write_text("canary\n")
    told = site("set", "my-site", "KEY", "--from-file", "key.txt", check=0).stderr
    assert b"ends with the newline that the file ends with" in told
    (site.cwd / "key.txt").write_text("canary")
    assert b"newline" not in site("set", "my-site", "KEY", "--from-file", "key.txt", check=0).stderr
