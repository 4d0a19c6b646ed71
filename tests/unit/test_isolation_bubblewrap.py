"""What bubblewrap is told for a view: what is mounted later covers what is below it."""

from __future__ import annotations

from ic_secrets.isolation.bubblewrap import render_arguments
from ic_secrets.isolation.probe import Ability
from ic_secrets.isolation.view import View


def find_places(view: View) -> list[str]:
    """The places that are mounted, in order."""
    arguments = render_arguments(Ability("bubblewrap", works=True, program="/usr/bin/bwrap"), view)
    numbers = {"--tmpfs": 1, "--ro-bind": 2, "--bind": 2, "--symlink": 2, "--proc": 1, "--dev": 1}
    return [arguments[place + numbers[word]] for place, word in enumerate(arguments) if word in numbers]


def test_a_directory_comes_before_all_that_it_contains() -> None:
    view = View(
        readable=("/opt", "/opt/agent/tools", "/srv/work/cache", "/usr"),
        writable=("/srv/work", "/srv/work-2"),
        protected=("/srv/work/project/.git",),
        hidden=("/srv/work/project/.git/config", "/opt/store.db"),
        home="/opt/agent",
        directory="/srv/work/project",
    )
    places = find_places(view)
    for number, place in enumerate(places):
        assert not [each for each in places[:number] if each.startswith(f"{place.rstrip('/')}/")], place
    assert {*view.readable, *view.writable, *view.protected, *view.hidden, view.home} <= set(places)


def test_what_is_hidden_wins_over_what_is_shown() -> None:
    view = View(readable=("/etc", "/etc/shadow"), writable=("/w",), protected=("/w",), hidden=("/etc/shadow",))
    arguments = render_arguments(Ability("bubblewrap", works=True), view)
    assert arguments[arguments.index("/etc/shadow") - 1] == "/dev/null"
    assert arguments[arguments.index("/w") - 1] == "--ro-bind"
