"""Which servers a project mentions beside those of its packages."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from ic_secrets.composer.mentions import Mention, find_hosts, list_mentions
from ic_secrets.composer.project import read_project


def mentions(project: Path, *command: str, **files: str) -> list[Mention]:
    for name, text in files.items():
        (project / name.replace("__", ".").replace("_", "-")).write_text(text)
    return list(list_mentions(read_project(command, str(project), {}), command))


@pytest.mark.parametrize(
    ("text", "hosts"),
    [
        ("curl -s https://hooks.example.net/x", ["hooks.example.net"]),
        ("curl https://Hooks.Example.NET.", ["hooks.example.net"]),
        ("curl 'http://a.example:8443' \"https://b.example\"", ["a.example:8443", "b.example"]),
        ("curl https://user:word@a.example/?u=https://b.example/", ["a.example", "b.example"]),
        ("echo https://a.example; (curl https://b.example)", ["a.example", "b.example"]),
        ("curl http://localhost:8000 http://127.0.0.1/x http://0.0.0.0:1", []),
        ("curl https://$HOST/x https://{{host}}/ ftp://a.example xhttps://b.example", []),
        ("curl https://a.example$PATH", []),
        ("git clone git@github.com:o/r.git", []),
    ],
)
def test_the_hosts_of_web_addresses_are_found(text: str, hosts: list[str]) -> None:
    assert list(find_hosts(text)) == hosts


def test_scripts_and_the_command_are_read(tmp_path: Path) -> None:
    scripts = {"post-install-cmd": ["@php x.php", "curl https://a.example/"], "other": "curl https://b.example", "c": 7}
    found = mentions(
        tmp_path,
        *("sh", "-c", "curl https://c.example https://a.example"),
        composer__json=json.dumps({"scripts": scripts}),
    )
    assert found == [
        Mention("c.example", "the command"),
        Mention("a.example", "the command"),
        Mention("b.example", "the script other"),
    ]


def test_a_lock_is_read_only_where_its_installer_is_called(tmp_path: Path) -> None:
    lock = json.dumps({"packages": {"node_modules/x": {"resolved": "https://npm.example/x.tgz"}}}, indent=2)
    assert mentions(tmp_path, "composer", "install", package_lock__json=lock) == []
    assert mentions(tmp_path, "npm", "ci") == [Mention("npm.example", "package-lock.json")]
    assert mentions(tmp_path, "cat", "docs/npm-notes") == []


def test_registries_come_from_settings_and_else_are_the_usual_ones(tmp_path: Path) -> None:
    assert mentions(tmp_path, "npm", "ci") == [Mention("registry.npmjs.org", "where npm downloads from")]
    assert mentions(tmp_path, "yarn") == [Mention("registry.yarnpkg.com", "where yarn downloads from")]
    lock = 'x@^1:\n  version "1"\n  resolved "https://yarn.example/x.tgz#abc"\n'
    assert mentions(tmp_path, "yarn", yarn__lock=lock) == [Mention("yarn.example", "yarn.lock")]
    settings = "; registry=https://no.example\n@acme:registry=https://acme.example/\nregistry = https://own.example\n"
    (tmp_path / ".npmrc").write_text(settings)
    assert {mention.host for mention in mentions(tmp_path, "npm", "ci")} == {
        "yarn.example",
        "acme.example",
        "own.example",
    }


@pytest.mark.parametrize("content", ["[]", "{", '{"scripts": []}', '{"scripts": {"a": {"b": 1}}}', "\xff"])
def test_a_malformed_manifest_mentions_nothing(tmp_path: Path, content: str) -> None:
    (tmp_path / "composer.json").write_bytes(content.encode("latin-1"))
    assert mentions(tmp_path, "composer", "install") == []


def test_a_long_line_takes_no_time(tmp_path: Path) -> None:
    (tmp_path / "package-lock.json").write_text('"resolved": "' * 100_000 + "registry" * 100_000)
    (tmp_path / ".npmrc").write_text("registry " * 100_000 + "https://" * 100_000)
    assert mentions(tmp_path, "npm", "ci")
