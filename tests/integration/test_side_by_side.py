"""Builds that run at the same time: what one of them writes is not taken for a leak of the other."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from ic_secrets.process.neighbours import Neighbour, announce, find_neighbours

VALUE = "canary-of-two-builds"
# Each waits for the other, so that they do run at the same time.
MEET = 'touch "$MEET/{own}"; n=0; while test ! -e "$MEET/{other}" && test $n -lt 600; do sleep 0.05; n=$((n+1)); done; '


@pytest.fixture
def builds(cli: Any, tmp_path: Path, private: Path) -> Callable[..., list[tuple[int, str]]]:
    """Run `first` and `second` in projects of their own, and return the status and the messages of each."""
    cli("init", check=0)
    cli("set", "my-site", "TOKEN", "--type", "env", "--scope", "ic", stdin=VALUE.encode(), check=0)

    def run(first: str, second: str, *options: str, places: tuple[str, str] = ("first", "second")) -> Any:
        meeting = tmp_path / "meeting"
        meeting.mkdir()
        processes = []
        for own, other, script, place in (("a", "b", first, places[0]), ("b", "a", second, places[1])):
            project = tmp_path / "tmp" / place
            project.mkdir(parents=True, exist_ok=True)
            words = ("run", "my-site.dev", *options, "--", "sh", "-c", MEET.format(own=own, other=other) + script)
            processes.append(
                cli.start(*words, cwd=project, env={"MEET": str(meeting), "TMPDIR": str(tmp_path / "tmp")})
            )
        return [(process.wait(60), process.communicate()[1].decode()) for process in processes]

    return run


def test_what_a_neighbour_writes_into_its_project_is_no_leak_of_ours(builds: Any) -> None:
    """The projects are in the temporary directory, as a CI runner's are, and that is searched."""
    (first, _), (second, said) = builds("sleep 1", 'echo "$TOKEN" > dump')
    assert (first, second) == (0, 120)
    assert "TOKEN was left behind in" in said


def test_the_private_directory_of_a_neighbour_is_no_leak_of_ours(builds: Any, tmp_path: Path) -> None:
    (tmp_path / "tmp").mkdir(exist_ok=True)
    run_dir = tmp_path / "tmp"
    results = builds('echo "$TOKEN" > "$COMPOSER_HOME/note"; sleep 2', "true", "--run-dir", str(run_dir))
    assert [status for status, _ in results] == [0, 0]


def test_what_either_may_have_written_is_a_warning(builds: Any, tmp_path: Path) -> None:
    (first, said), (second, _) = builds("sleep 1.5", 'echo "$TOKEN" > "$TMPDIR/dump"')
    assert (first, second) == (0, 0)
    assert "tmp/dump:1 (raw), by this build or by another that ran at the same time" in said


def test_a_leak_in_our_own_project_stays_one_beside_a_neighbour(builds: Any) -> None:
    assert [status for status, _ in builds('echo "$TOKEN" > dump', "sleep 1")] == [120, 0]


def test_alone_a_value_in_the_temporary_directory_is_a_leak(cli: Any, builds: Any, tmp_path: Path) -> None:
    (tmp_path / "tmp").mkdir(exist_ok=True)
    project = tmp_path / "alone"
    project.mkdir()
    words = ("run", "my-site.dev", "--", "sh", "-c", 'echo "$TOKEN" > "$TMPDIR/dump"')
    cli(*words, cwd=project, env={"TMPDIR": str(tmp_path / "tmp")}, check=120)


def test_whoever_starts_later_is_known_even_when_it_is_over(tmp_path: Path) -> None:
    paths = [tmp_path / f"ic-secrets-0-{number:016x}" for number in range(2)]
    for path in paths:
        path.mkdir(mode=0o700)
        announce(Neighbour(str(path), (f"{path}-project",)), {"TMPDIR": str(tmp_path)}, str(tmp_path))
    later = Neighbour(str(paths[1]), (f"{paths[1]}-project",))
    assert later in find_neighbours(str(paths[0]))
    assert Neighbour(str(paths[0]), (f"{paths[0]}-project",)) in find_neighbours(str(paths[1]))
    (paths[0] / "neighbours").write_text("what a build wrote\n" + json.dumps([1, 2, 3]) + "\n")
    assert find_neighbours(str(paths[0])) == ()


def test_a_build_inside_another_is_a_part_of_it(tmp_path: Path) -> None:
    outer, inner = (tmp_path / f"ic-secrets-0-{number:016x}" for number in range(2))
    for path in (outer, inner):
        path.mkdir(mode=0o700)
        environment = {"TMPDIR": str(tmp_path), "COMPOSER_HOME": str(outer / "composer") if path == inner else ""}
        announce(Neighbour(str(path)), environment, str(tmp_path))
    assert Neighbour(str(inner)) not in find_neighbours(str(outer))
    assert Neighbour(str(outer)) not in find_neighbours(str(inner))
