"""The site that Lando's and DDEV's files name, and files that are meant to harm."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from commandline import Cli
from ic_secrets.config.settings import Settings
from ic_secrets.errors import ConfigError

LANDO = "name: app\nrecipe: pantheon\nconfig:\n  framework: drupal10\n  site: my-site\n  env: live\n"
CANARY = "a-canary-of-a-file"


def settings(work: Path, **variables: str) -> Settings:
    return Settings({"IC_SECRETS_CONFIG": os.devnull, **variables}, directory=str(work))


def write(work: Path, files: dict[str, str]) -> None:
    for name, text in files.items():
        path = work / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)


FOUND = [
    ("lando", {".lando.yml": LANDO}, ("my-site", ".lando.yml:5")),
    ("a tag", {".lando.yml": LANDO + "x: !load y\n"}, ("my-site", ".lando.yml:5")),
    ("an alias", {".lando.yml": "a: &a my-site\nrecipe: pantheon\nconfig: {site: *a}\n"}, ("my-site", ".lando.yml:1")),
    ("another recipe", {".lando.yml": LANDO.replace("pantheon", "drupal10")}, None),
    ("no site", {".lando.yml": "recipe: pantheon\n"}, None),
    ("a list", {".lando.yml": "- recipe: pantheon\n"}, None),
    ("empty", {".lando.yml": ""}, None),
    ("other shapes", {".lando.yml": "recipe: [pantheon]\nconfig: {site: {a: b}}\n? [x]\n: y\n"}, None),
    (
        "ddev",
        {".ddev/config.yaml": "name: x\nweb_environment:\n    - A=b\n    - PANTHEON_SITE=my-site\n"},
        ("my-site", ".ddev/config.yaml:4"),
    ),
    (
        "ddev's older provider",
        {
            ".ddev/config.yaml": "name: x\nweb_environment: []\n",
            ".ddev/providers/pantheon.yaml": "environment_variables:\n  project: my-site.live\n",
        },
        ("my-site", ".ddev/providers/pantheon.yaml:2"),
    ),
    (
        "the template",
        {
            ".ddev/config.yaml": "name: x\n",
            ".ddev/providers/pantheon.yaml": "environment_variables:\n  project: yourproject.dev\n",
        },
        None,
    ),
    (
        "both, which agree",
        {".lando.yml": LANDO, ".ddev/config.yaml": "web_environment: [PANTHEON_SITE=my-site]\n"},
        ("my-site", ".lando.yml:5"),
    ),
    (
        "what is stronger",
        {".lando.yml": LANDO, "ic-secrets.toml": 'site = "another"'},
        ("another", "ic-secrets.toml:1"),
    ),
]


@pytest.mark.parametrize(("files", "expected"), [case[1:] for case in FOUND], ids=[case[0] for case in FOUND])
def test_the_site_is_found(work: Path, files: dict[str, str], expected: tuple[str, str] | None) -> None:
    """From the project's root and from below it. The environment there is where databases come from: not taken."""
    write(work, files)
    below = work / "web/modules"
    below.mkdir(parents=True)
    for directory in (work, below):
        found = settings(directory).site
        assert (found and found[:2]) == (expected and (expected[0], f"{work}/{expected[1]}"))
    if expected:
        assert str(settings(work).target(None)) == f"{expected[0]}.dev"


BOMB = "a0: &a0 [x, x]\n" + "".join(f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]\n" for n in range(1, 60))
BAD = [
    ("disagreeing", LANDO, "web_environment: [PANTHEON_SITE=another]\n", "names a different site"),
    ("malformed", f"recipe: pantheon\nconfig: [{CANARY}\n", "", ":3:1: not valid YAML"),
    ("tabs", f"recipe: pantheon\n\t{CANARY}: x\n", "", "not valid YAML"),
    ("deep", "[" * 60_000, "", "nested too deeply"),
    ("deep mappings", "{a: " * 10_000, "", "nested too deeply"),
    ("deep lines", "".join(" " * n + "a:\n" for n in range(300)), "", "nested too deeply"),
    ("large", "#" * (10 << 20), "", "is larger than 64 KiB"),
    ("nul", "recipe: pantheon\0\n", "", "not valid YAML"),
    ("a site that is none", f"recipe: pantheon\nconfig:\n  site: '{CANARY}/..'\n", "", ":3: not a valid site name"),
    ("an unknown alias", "recipe: *pantheon\n", "", ":1:9: not valid YAML"),
    ("two documents", "recipe: pantheon\n---\nrecipe: pantheon\n", "", "not valid YAML"),
]


@pytest.mark.parametrize(("lando", "ddev", "expected"), [case[1:] for case in BAD], ids=[case[0] for case in BAD])
def test_a_bad_file_is_told_without_its_content(work: Path, lando: str, ddev: str, expected: str) -> None:
    write(work, {".lando.yml": lando} | ({".ddev/config.yaml": ddev} if ddev else {}))
    with pytest.raises(ConfigError) as caught:
        _ = settings(work).site
    assert expected in str(caught.value)
    assert CANARY not in str(caught.value)


def test_an_alias_bomb_is_never_unfolded(work: Path) -> None:
    """60 levels of nine aliases would be 9^60 elements; a list that holds itself has no end."""
    write(work, {".lando.yml": f"{LANDO}{BOMB}loop: &loop [*loop]\n"})
    before = time.process_time()
    found = settings(work).site
    assert found is not None
    assert found.value == "my-site"
    assert time.process_time() - before < 2


def test_no_tag_runs_anything(work: Path) -> None:
    for tag in ("!!python/object/apply:os.system ['touch ran']", "!!timestamp 9999-99-99", "!!int x", "!!binary ="):
        write(work, {".lando.yml": f"{LANDO}x: {tag}\n"})
        assert settings(work).site is not None
    assert not Path("ran").exists()


@pytest.mark.parametrize("kind", ["link", "fifo", "directory"])
def test_what_is_no_file_of_the_checkout_is_not_read(work: Path, kind: str) -> None:
    path = work / ".lando.yml"
    if kind == "link":
        (work / "other").write_text(LANDO)
        path.symlink_to("other")
    elif kind == "fifo":
        os.mkfifo(path)
    else:
        path.mkdir()
    with pytest.raises(ConfigError, match=r"symbolic link|not a regular file"):
        _ = settings(work).site


@pytest.mark.parametrize("name", [".lando.yml", "ic-secrets.toml"])
@pytest.mark.parametrize(
    ("ci", "is_refused"), [("true", True), ("1", True), ("jenkins", True), ("false", False), ("", False), ("0", False)]
)
def test_in_a_pipeline_a_checkout_names_no_site(work: Path, name: str, ci: str, is_refused: bool) -> None:
    write(work, {name: LANDO if name == ".lando.yml" else 'site = "my-site"\n'})
    found = settings(work, CI=ci)
    if is_refused:
        with pytest.raises(ConfigError, match=r"only .* names the site"):
            found.target(None)
    else:
        assert str(found.target(None)) == "my-site.dev"
    assert str(found.target("other.pr")) == "other.pr"
    assert str(settings(work, CI=ci, IC_SECRETS_SITE="mine").target(None)) == "mine.dev"


def test_in_a_pipeline_the_persons_file_names_the_site(work: Path, tmp_path: Path) -> None:
    person = tmp_path / "config.toml"
    person.write_text('site = "my-site"\n')
    person.chmod(0o600)
    assert str(settings(work, CI="1", IC_SECRETS_CONFIG=str(person)).target(None)) == "my-site.dev"


def test_a_bad_file_of_another_tool_stops_nobody_who_names_the_site(cli: Cli, work: Path) -> None:
    cli("init", check=0)
    cli("set", "my-site", "TOKEN", "--type", "env", "--scope", "ic", stdin=b"a-canary-of-a-token", check=0)
    write(work, {".lando.yml": "[", "file": ""})
    cli("run", "my-site", "--", "true", cwd=work, check=0)
    cli("scan", "my-site", "file", cwd=work, check=0)
    cli("run", "--", "true", cwd=work, env={"IC_SECRETS_SITE": "my-site"}, check=0)
