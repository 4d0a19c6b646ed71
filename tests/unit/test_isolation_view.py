"""What an isolated build sees of the file system."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from ic_secrets.composer.project import read_project
from ic_secrets.errors import IsolationError
from ic_secrets.isolation.hiding import find_unreadable
from ic_secrets.isolation.surroundings import adapt_environment, check_arguments, check_outside, find_outside
from ic_secrets.isolation.view import parse_path_rule
from machines import Machine


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    return Machine(Path(os.path.realpath(tmp_path)))


def test_the_system_is_readable_and_its_links_are_links(machine: Machine) -> None:
    view = machine.see()
    assert {"/usr", "/etc"} <= set(view.readable)
    for path in ("/bin", "/lib"):
        assert dict(view.links).get(path) == (os.readlink(path) if os.path.islink(path) else None)
    assert not view.shows("/var/lib")
    assert not view.shows("/root")
    assert not view.shows("/home")


def test_a_build_sees_that_it_is_in_a_container(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    marker = machine.write(machine.root / "containerenv")
    assert not machine.see().shows(marker)
    monkeypatch.setattr("ic_secrets.isolation.view._CONTAINER", (marker, str(machine.root / "none")))
    assert marker in machine.see().readable


def test_a_project_in_the_home_is_writable_and_the_home_is_not_seen(machine: Machine) -> None:
    machine.write(machine.home / ".ssh" / "id_ed25519")
    view = machine.see()
    assert view.writable == (str(machine.project),)
    assert view.home == str(machine.home)
    assert view.shows(f"{machine.project}/composer.json")
    assert view.lets_write(f"{machine.project}/vendor")
    assert not view.shows(f"{machine.home}/.ssh/id_ed25519")


def test_a_linked_project_is_seen_by_both_of_its_names(machine: Machine) -> None:
    link = machine.home / "current"
    link.symlink_to("site")
    view = machine.see(directory=str(link), project=str(link))
    assert view.writable == (str(machine.project),)
    assert view.directory == str(link)
    assert dict(view.links)[str(link)] == "site"


def test_composer_working_in_another_directory_leaves_the_one_it_starts_in_readable(machine: Machine) -> None:
    (machine.project / "app").mkdir()
    view = machine.see(project=str(machine.project / "app"))
    assert view.writable == (f"{machine.project}/app",)
    assert view.shows(f"{machine.project}/packages")
    assert not view.lets_write(f"{machine.project}/packages")
    assert view.directory == str(machine.project)


@pytest.mark.parametrize("place", ["home", "/home", "/"])
def test_a_home_is_never_the_project(machine: Machine, place: str) -> None:
    path = {"home": str(machine.home)}.get(place, place)
    with pytest.raises(IsolationError, match="more than a project"):
        machine.see(directory=path, project=path)


def test_the_project_cannot_lie_in_what_is_ours(machine: Machine) -> None:
    with pytest.raises(IsolationError, match="no isolated build may see"):
        machine.see(concealed=(str(machine.project),))


# --- git ------------------------------------------------------------------------------------------


def test_a_hostile_git_link_shows_nothing(machine: Machine) -> None:
    place = machine.root / "keys"
    place.mkdir()
    (machine.project / ".git").symlink_to(place)
    for allowed in ((), (".git:rw",)):
        with pytest.raises(IsolationError) as caught:
            machine.see(allowed_paths=allowed)
        assert f"--allow-path {place}" in caught.value.hint
    assert machine.see(allowed_paths=(f"{place}:rw",)).lets_write(str(place))


def test_a_git_link_within_the_project_is_not_left_to_the_build(machine: Machine) -> None:
    (machine.project / "real.git").mkdir()
    (machine.project / ".git").symlink_to("real.git")
    with pytest.raises(IsolationError, match="could replace"):
        machine.see()


def test_a_worktree_that_was_pruned_is_not_missed(machine: Machine) -> None:
    machine.write(machine.project / ".git", "gitdir: /nowhere/.git/worktrees/x\n")
    assert machine.see().protected == (f"{machine.project}/.git",)


# --- what is allowed ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "path", "writable"),
    [("../a", "/w/a", False), ("/x/./y:rw", "/x/y", True), (".git:rw", "/w/p/.git", True), ("a:b", "/w/p/a:b", False)],
)
def test_an_allowed_path_is_the_projects_and_may_be_writable(text: str, path: str, writable: bool) -> None:
    assert parse_path_rule(text, "/w/p") == (path, writable)


@pytest.mark.parametrize("text", ["", ":rw", "a\0b"])
def test_an_allowed_path_has_to_name_one(text: str) -> None:
    with pytest.raises(IsolationError, match="names no path"):
        parse_path_rule(text, "/w")


def test_allowed_paths_are_seen(machine: Machine) -> None:
    for name in ("packages", "shared"):
        (machine.home / name).mkdir()
    view = machine.see(allowed_paths=("../packages", f"{machine.home}/shared:rw"))
    assert view.shows(f"{machine.home}/packages/a")
    assert not view.lets_write(f"{machine.home}/packages")
    assert view.lets_write(f"{machine.home}/shared/a")


@pytest.mark.parametrize("text", ["..", "/", "/tmp:rw", "/proc/1", "../nowhere", "store/key", "out"])
def test_what_cannot_be_allowed_is_refused_in_words(machine: Machine, text: str) -> None:
    key = machine.write(machine.project / "store" / "key")
    (machine.project / "out").symlink_to(machine.root)
    with pytest.raises(IsolationError) as caught:
        machine.see(allowed_paths=(text,), concealed=(key,))
    assert caught.value.hint
    assert caught.value.exit_status == 125


# --- what is hidden -------------------------------------------------------------------------------


def test_a_store_in_the_project_is_hidden_through_links_with_all_that_is_beside_it(machine: Machine) -> None:
    store = machine.write(machine.project / "data" / "store.db")
    beside = machine.write(machine.project / "data" / "store.db-wal")
    machine.write(machine.project / "data" / "storey.txt")
    link = machine.project / "link"
    link.symlink_to("data/store.db")
    view = machine.see(concealed=(str(link), "/nowhere/key"))
    assert set(view.hidden) == {store, beside}
    assert not view.shows(store)
    assert view.shows(f"{machine.project}/data/x")


def test_a_directory_in_which_all_is_hidden_is_hidden_as_a_whole(machine: Machine) -> None:
    paths = [machine.write(machine.project / "ours" / name) for name in ("key", "store")]
    assert machine.see(concealed=tuple(paths)).hidden == (f"{machine.project}/ours",)
    only = machine.write(machine.project / "app" / "key")
    app = str(machine.project / "app")
    assert machine.see(directory=app, project=app, concealed=(only,)).hidden == (only,)


def test_root_gets_nothing_of_a_directory_that_others_may_not_read(tmp_path: Path) -> None:
    (tmp_path / "open").mkdir()
    (tmp_path / "closed").mkdir(mode=0o700)
    for name, mode in (("open/a", 0o644), ("open/shadow", 0o640), ("closed/x", 0o644)):
        (tmp_path / name).touch()
        (tmp_path / name).chmod(mode)
    (tmp_path / "link").symlink_to("/etc/shadow")
    assert set(find_unreadable([str(tmp_path)])) == {f"{tmp_path}/open/shadow", f"{tmp_path}/closed"}


def test_shadow_is_hidden_from_root_alone(machine: Machine) -> None:
    assert "/etc/shadow" in machine.see(is_root=True).hidden
    assert not machine.see(is_root=False).hidden


def test_without_mounts_what_is_hidden_is_in_nothing_that_is_seen(machine: Machine) -> None:
    view = machine.see(is_root=True, mode="landlock")
    assert "/etc/passwd" in view.readable
    assert view.shows("/usr/bin/env")
    assert not view.links
    assert not view.home
    assert not {"/etc", "/etc/shadow"} & set(view.readable)
    assert not view.shows("/etc/shadow")
    assert all(os.path.lexists(path) and not os.path.islink(path) for path in view.readable)


def test_without_mounts_a_store_in_the_project_cannot_be_hidden(machine: Machine) -> None:
    key = machine.write(machine.project / "key")
    with pytest.raises(IsolationError, match="cannot be hidden"):
        machine.see(mode="landlock", concealed=(key,))


# --- Composer's home and the files of a CI step -----------------------------------------------------


def test_composers_home_is_seen_entry_by_entry_and_never_its_credentials(machine: Machine) -> None:
    place = machine.home / ".composer"
    for name in ("auth.json", "auth.json.bak", "keys.tags.pub", "vendor/autoload.php", "cache/x", "config.json"):
        machine.write(place / name)
    view = machine.see(environment={"COMPOSER_HOME": str(place)}, own=("config.json",))
    assert view.shows(f"{place}/vendor/autoload.php")
    assert view.shows(f"{place}/keys.tags.pub")
    assert not any(view.shows(f"{place}/{name}") for name in ("auth.json", "auth.json.bak", "cache/x", "config.json"))


def test_a_home_that_is_composers_too_is_not_seen_entry_by_entry(machine: Machine) -> None:
    machine.write(machine.home / ".ssh" / "id")
    machine.write(machine.home / "composer.json")
    view = machine.see(environment={"COMPOSER_HOME": str(machine.home)})
    assert view.shows(f"{machine.home}/composer.json")
    assert not view.shows(f"{machine.home}/.ssh/id")


def test_credentials_of_a_composer_home_in_the_project_are_hidden(machine: Machine) -> None:
    auth = machine.write(machine.project / ".composer" / "auth.json")
    machine.write(machine.project / ".composer" / "config.json")
    assert machine.see(environment={"COMPOSER_HOME": str(machine.project / ".composer")}).hidden == (auth,)


def test_files_of_a_step_are_writable_one_by_one(machine: Machine) -> None:
    output = machine.write(machine.root / "runner" / "output")
    machine.write(machine.root / "runner" / "credentials")
    view = machine.see(step_files=(output, f"{machine.root}/runner", "/nowhere"))
    assert view.lets_write(output)
    assert not view.shows(f"{machine.root}/runner/credentials")


# --- the environment, and what composer.json names ----------------------------------------------------


def test_what_leads_to_agents_is_not_in_the_environment(machine: Machine) -> None:
    agents = {"SSH_AUTH_SOCK": "/run/x", "DBUS_SESSION_BUS_ADDRESS": "unix:path=/run/b", "XDG_RUNTIME_DIR": "/run/u"}
    places = {"TMPDIR": "/var/cache/x", "TMP": f"{machine.home}/tmp", "XDG_DATA_HOME": "/srv/data"}
    kept = {"TEMP": "/tmp", "DOCKER_HOST": "tcp://build:2376", "XDG_CACHE_HOME": f"{machine.home}/.c", "GPG_TTY": "x"}
    view = machine.see()
    adapted = adapt_environment({**machine.environment, **agents, **places, **kept}, view)
    assert adapted == {**machine.environment, **kept, "GIT_DISCOVERY_ACROSS_FILESYSTEM": "1"}
    assert "DOCKER_HOST" not in adapt_environment({"DOCKER_HOST": "unix:///run/docker.sock"}, view)


def test_what_composer_json_names_outside_is_advised_and_never_shown(machine: Machine) -> None:
    (machine.home / "packages").mkdir()
    (machine.home / ".ssh").mkdir()
    text = """{"repositories": [{"type": "path", "url": "../packages/*"}, {"type": "path", "url": "~/.ssh"},
      {"type": "path", "url": "../gone"}, {"type": "path", "url": "inside"}], "config": {"vendor-dir": "../vendor"}}"""
    machine.write(machine.project / "composer.json", text)
    project = read_project(["composer"], str(machine.project), machine.environment)
    view = machine.see()
    found = {each.path: each.option for each in find_outside(project, view, machine.environment)}
    assert found == {
        f"{machine.home}/packages": "--allow-path ../packages",
        f"{machine.home}/.ssh": "--allow-path ../.ssh",
        f"{machine.home}/vendor": "--allow-path ../vendor:rw",
    }
    assert not any(view.shows(path) for path in found)
    with pytest.raises(IsolationError, match="would not see") as caught:
        check_outside(["composer", "install"], project, view, machine.environment)
    assert caught.value.hint.startswith(f"make {machine.home}/vendor, then --allow-path ")
    assert check_outside(["npm", "ci"], project, view, machine.environment)
    (machine.home / "vendor").mkdir()
    allowed = machine.see(allowed_paths=("../packages", "../vendor:rw", "../.ssh"))
    assert check_outside(["composer", "install"], project, allowed, machine.environment) is None


@pytest.mark.parametrize(
    ("text", "hint"),
    [("../pakages", "mend its spelling, or make it before the build"), ("../packages:RW", "there is :rw or nothing")],
)
def test_a_path_to_allow_that_is_not_there_says_why(machine: Machine, text: str, hint: str) -> None:
    (machine.home / "packages").mkdir()
    with pytest.raises(IsolationError, match="does not exist") as caught:
        machine.see(allowed_paths=(text,))
    assert hint in (caught.value.hint or "")


def test_a_file_that_the_command_names_and_the_build_would_not_see_is_named(machine: Machine) -> None:
    phar = machine.write(machine.home / "bin" / "composer.phar", "<?php")
    machine.write(machine.project / "bin" / "tool")
    view = machine.see()
    with pytest.raises(IsolationError, match="the command names") as caught:
        check_arguments(["php", phar, "install"], view, str(machine.project))
    assert caught.value.hint == f"--allow-path {phar}"
    assert check_arguments(["php", phar], machine.see(allowed_paths=(phar,)), str(machine.project)) is None
    machine.write(machine.home / "tool")
    assert check_arguments(["sh", "../tool"], view, str(machine.project)) == (
        f"the command names what the isolated build would not see: {machine.home}/tool",
        f"--allow-path {machine.home}/tool",
    )
    seen = ["bin/tool", "/bin/sh", "/proc/self/environ", "/dev/null", "/no/such/file", "-d", str(machine.home)]
    assert check_arguments(["sh", *seen], view, str(machine.project)) is None


def test_advice_names_a_path_that_is_the_same_from_where_the_build_starts(machine: Machine) -> None:
    (machine.project / "app").mkdir()
    machine.write(machine.project / "app" / "composer.json", '{"config": {"vendor-dir": "../../vendor"}}')
    command = ["composer", "-d", "app", "install"]
    project = read_project(command, str(machine.project), machine.environment)
    view = machine.see(project=project.directory)
    (found,) = find_outside(project, view, machine.environment)
    assert found.option == f"--allow-path {machine.home}/vendor:rw"


def test_what_decides_on_later_steps_can_be_read_and_not_written(machine: Machine) -> None:
    path = machine.write(machine.root / "runner" / "env")
    view = machine.see(steering_files=(path,))
    assert view.shows(path)
    assert not view.lets_write(path)
    assert machine.see(steering_files=(path,), allowed_paths=(f"{path}:rw",)).lets_write(path)


def test_a_shell_in_a_linked_directory_keeps_its_name_of_it(machine: Machine) -> None:
    link = machine.home / "current"
    link.symlink_to(machine.project)
    view = machine.see(environment={"PWD": str(link)})
    assert str(link) in dict(view.links)
    assert view.directory == str(link)
    assert str(link) not in dict(machine.see(environment={"PWD": f"{machine.home}"}).links)
