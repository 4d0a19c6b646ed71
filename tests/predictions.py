"""What `plan` says that Composer would send, and what it sends: credentials in every pair of places and methods.

Each host of a `Layout` has credentials in some sources, each with a mark of its own. A loopback server notes which
mark arrives when the real Composer runs; it has to be that of the source and method which the plan names.
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

from servers.recorder import Recorder, start_recorder

SOURCES = ("config.json", "auth.json", "COMPOSER_AUTH", "composer.json", "project", "secret")
METHODS = (
    "bitbucket-oauth",
    "github-oauth",
    "gitlab-oauth",
    "gitlab-token",
    "forgejo-token",
    "http-basic",
    "bearer",
    "client-certificate",
)
HEADERS = "custom-headers"

# What one host has: a source and a method, twice.
Pair = tuple[tuple[str, str], tuple[str, str]]


class Layout(NamedTuple):
    """Which credentials each host has, and how a mark is found again."""

    pairs: tuple[Pair, ...]
    hosts: tuple[str, ...]

    def mark(self, host: str, source: str, method: str) -> str:
        """The token that stands for this credential alone, and is part of none else's."""
        return f"mark.{self.hosts.index(host)}.{SOURCES.index(source)}.{[*METHODS, HEADERS].index(method)}.end"

    def document(self, source: str) -> dict[str, Any]:
        """The auth.json of the source."""
        document: dict[str, Any] = {}
        for host, pair in zip(self.hosts, self.pairs, strict=True):
            for place, method in pair:
                if place == source:
                    document.setdefault(method, {})[host] = shape(method, self.mark(host, source, method))
        return document


def pairs_of_sources() -> Iterator[Pair]:
    """Every two sources, with the same method and with two."""
    for first, second in itertools.combinations(SOURCES, 2):
        for methods in itertools.product(("http-basic", "bearer"), repeat=2):
            yield (first, methods[0]), (second, methods[1])


def pairs_of_methods(source: str) -> Iterator[Pair]:
    """Every two methods, both in that source."""
    for first, second in itertools.combinations(METHODS, 2):
        yield (source, first), (source, second)


def pairs_with_headers(first: str, second: str) -> Iterator[Pair]:
    """custom-headers in two sources: for one host, for one each, and against another method."""
    yield (first, HEADERS), (second, HEADERS)
    yield (first, HEADERS), (first, "http-basic")
    yield (second, HEADERS), (second, "bearer")
    yield (first, HEADERS), (second, "http-basic")
    yield (first, "http-basic"), (second, HEADERS)


def shape(method: str, mark: str) -> Any:
    """A credential of the method, with the mark as what Composer sends."""
    if method == "bitbucket-oauth":
        return {"consumer-key": "key", "consumer-secret": mark}
    if method == "http-basic":
        return {"username": "user", "password": mark}
    if method == "forgejo-token":
        return {"username": "user", "token": mark}
    if method == "client-certificate":
        return {"local_cert": f"/nonexistent/{mark}"}
    return [f"X-Mark: {mark}"] if method == HEADERS else mark


def compare(cli: Any, home: dict[str, str], directory: Path, pairs: Iterable[Pair]) -> list[str]:
    """Where the plan and Composer disagree, in words; each pair has a host of its own."""
    pairs = tuple(pairs)
    with start_recorder(len(pairs)) as recorder:
        layout = Layout(pairs, tuple(recorder.hosts))
        project = directory / "project"
        environment = _write(cli, home, project, layout)
        command = ("my-site.dev", "--", "composer", "update", "--no-interaction", "--no-plugins", "--no-ansi")
        plan = json.loads(cli("plan", "--json", *command, cwd=project, env=environment).stdout)
        assert not recorder.headers, "a plan asks nobody"
        cli("run", "--leaks", "off", *command, cwd=project, env=environment, check=2)
    places = {
        str(home_directory(home) / "config.json"): "config.json",
        str(home_directory(home) / "auth.json"): "auth.json",
        str(project / "composer.json"): "composer.json",
        str(project / "auth.json"): "project",
        "COMPOSER_AUTH": "COMPOSER_AUTH",
    }
    predicted = {w["host"]: (places.get(w["source"], "secret"), w["method"]) for w in plan["hosts"]}
    return [
        told
        for host, pair in zip(layout.hosts, pairs, strict=True)
        if (told := _judge(layout, recorder, host, pair, predicted.get(host)))
    ]


def home_directory(home: dict[str, str]) -> Path:
    """The user's Composer home."""
    return Path(home["XDG_CONFIG_HOME"]) / "composer"


def _judge(layout: Layout, recorder: Recorder, host: str, pair: Pair, predicted: tuple[str, str] | None) -> str:
    assert recorder.headers.get(host), f"Composer did not ask {host}"
    marks = {layout.mark(host, source, method): (source, method) for source, method in pair}
    sent = {marks[mark] for mark in recorder.sent(host, list(marks))}
    # A certificate is for TLS, and goes in no header.
    expected = {predicted} if predicted and predicted[1] != "client-certificate" else set()
    return "" if sent == expected else f"of {pair} Composer sent {sent or None}, and the plan said {predicted}"


def _write(cli: Any, home: dict[str, str], project: Path, layout: Layout) -> dict[str, str]:
    """Put every credential where it belongs; what the environment needs besides."""
    project.mkdir()
    composer_home = home_directory(home)
    composer_home.mkdir(parents=True)
    manifest = {
        "repositories": [
            *({"type": "composer", "url": f"http://{host}"} for host in layout.hosts),
            {"packagist.org": False},
        ],
        "require": {"acme/not-there": "*"},  # so that every repository is asked
        "config": {"secure-http": False, **layout.document("composer.json")},
    }
    (project / "composer.json").write_text(json.dumps(manifest))
    for path, source in ((composer_home, "auth.json"), (project, "project")):
        (path / "auth.json").write_text(json.dumps(layout.document(source)))
    (composer_home / "config.json").write_text(json.dumps({"config": layout.document("config.json")}))
    cli("init", check=0)
    for method, hosts in layout.document("secret").items():
        for host, content in hosts.items():
            words = ("set", "my-site", f"{method}.{host}", "--type", "composer", "--scope", "ic")
            cli(*words, stdin=json.dumps(content).encode(), check=0)
    cli("site", "set", "my-site", check=0)
    variable = layout.document("COMPOSER_AUTH")
    return {"COMPOSER_AUTH": json.dumps(variable)} if variable else {}
