"""The programs that an isolated build finds: those that PATH names outside, or none at all."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from ic_secrets.composer.home import ComposerHome
from ic_secrets.core.collector import RAISED
from ic_secrets.errors import IsolationError, ProgramNotExecutableError
from ic_secrets.isolation.view import View, Wish, make_view

SCRIPT = "#!/bin/sh\nexec true\n"


class Person:
    """A person with programs below their home."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.home = root / "people" / "anna"
        self.project = root / "site"
        self.project.mkdir()
        self.home.mkdir(parents=True)

    def install(self, path: str, text: str = SCRIPT, mode: int = 0o755) -> str:
        place = self.home / path
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_text(text)
        place.chmod(mode)
        return str(place)

    def see(self, *directories: str, program: str = "", environment: Any = None, **changes: Any) -> View:
        path = ":".join([*(str(self.home / each) for each in directories), "/usr/bin:/bin"])
        variables = {"HOME": str(self.home), "PATH": path, **(environment or {})}
        wish = Wish(str(self.project), str(self.project), program, variables, ComposerHome.find(variables))
        return make_view(wish._replace(**changes), RAISED)


@pytest.fixture
def person(tmp_path: Path) -> Person:
    return Person(Path(os.path.realpath(tmp_path)))


@pytest.mark.parametrize(
    ("directory", "root"),
    [
        (".asdf/shims", ".asdf"),
        (".local/share/mise/shims", ".local/share/mise"),
        (".phpenv/shims", ".phpenv"),
        (".phpbrew/php/php-8.3/bin", ".phpbrew"),
        (".nvm/versions/node/v20/bin", ".nvm"),
        (".nodenv/shims", ".nodenv"),
        (".volta/bin", ".volta"),
        (".pyenv/shims", ".pyenv"),
    ],
)
def test_a_version_manager_is_seen_whole_and_nothing_beside_it(person: Person, directory: str, root: str) -> None:
    php = person.install(f"{directory}/php", f'#!/bin/sh\nexec {person.home}/{root}/libexec/run php "$@"\n')
    person.install(f"{root}/libexec/run")
    person.install(".ssh/id")
    person.install(".tool-versions")
    view = person.see(directory)
    assert view.shows(php)
    assert view.shows(f"{person.home}/{root}/libexec/run")
    assert view.home == str(person.home)
    assert view.shows(f"{person.home}/.tool-versions")
    assert not view.shows(f"{person.home}/.ssh/id")
    assert not view.lets_write(php)


def test_a_version_manager_is_found_where_its_variable_says(person: Person) -> None:
    php = person.install("tools/asdf/shims/php")
    person.install("tools/asdf/installs/php/bin/php")
    view = person.see("tools/asdf/shims", environment={"ASDF_DATA_DIR": str(person.home / "tools/asdf")})
    assert view.shows(php)
    assert view.shows(f"{person.home}/tools/asdf/installs/php/bin/php")


def test_a_linked_php_is_seen_with_its_installation_and_the_links(person: Person) -> None:
    real = person.install("opt/php-8.3/bin/php")
    person.install("opt/php-8.3/etc/php.ini")
    person.install("opt/notes")
    (person.home / "current").symlink_to("opt/php-8.3")
    (person.home / "bin").mkdir()
    (person.home / "bin/php").symlink_to("../current/bin/php")
    view = person.see("bin")
    assert view.shows(real)
    assert view.shows(f"{person.home}/opt/php-8.3/etc/php.ini")
    assert dict(view.links)[f"{person.home}/current"] == "opt/php-8.3"
    assert view.shows(f"{person.home}/bin/php")
    assert not view.shows(f"{person.home}/opt/notes")


def test_only_programs_are_seen_of_a_directory_that_holds_credentials_too(person: Person) -> None:
    for name in (".docker", ".cargo", ".local"):
        person.install(f"{name}/bin/composer")
        person.install(f"{name}/config.json")
        person.install(f"{name}/share/keyrings/login")
    view = person.see(".docker/bin", ".cargo/bin", ".local/bin")
    for name in (".docker", ".cargo", ".local"):
        assert view.shows(f"{person.home}/{name}/bin/composer")
        assert not any(view.shows(f"{person.home}/{name}/{each}") for each in ("config.json", "share/keyrings/login"))


def test_composers_global_programs_are_seen_with_their_packages(person: Person) -> None:
    tool = person.install(".config/composer/vendor/bin/drush")
    package = person.install(".config/composer/vendor/drush/drush/drush.php")
    auth = person.install(".config/composer/auth.json")
    view = person.see(".config/composer/vendor/bin")
    assert view.shows(tool)
    assert view.shows(package)
    assert not view.shows(auth)


def test_a_home_in_path_is_not_seen_but_for_the_program(person: Person) -> None:
    php = person.install("php")
    person.install("diary")
    view = person.see("")
    assert view.shows(php)
    assert not view.shows(f"{person.home}/diary")


def test_a_shim_of_an_unknown_manager_is_an_error_rather_than_another_php(person: Person) -> None:
    person.install("shims/php", '#!/usr/bin/env bash\nset -e\nexec "$HOME/frob/libexec/frob" exec php "$@"\n')
    person.install("frob/libexec/frob")
    with pytest.raises(IsolationError, match="frob") as caught:
        person.see("shims")
    assert caught.value.hint == f"--allow-path {person.home}/frob"
    assert caught.value.exit_status == 125
    assert person.see("shims", allowed_paths=(f"{person.home}/frob",)).shows(f"{person.home}/frob/libexec/frob")


def test_a_php_among_what_is_concealed_is_an_error_rather_than_another_php(person: Person) -> None:
    person.install("ours/bin/php")
    with pytest.raises(IsolationError):
        person.see("ours/bin", concealed=(str(person.home / "ours"),))


def test_a_checkout_does_not_lead_path_to_what_is_not_its_own(person: Person) -> None:
    private = person.install("private/deploy")
    (person.project / "bin").mkdir()
    (person.project / "bin/php").symlink_to(private)
    (person.project / "tools").symlink_to(person.home / "private")
    with pytest.raises(IsolationError, match="leads out of the project"):
        person.see(f"{person.project}/bin")
    assert not person.see(f"{person.project}/tools").shows(private)


def test_the_builds_program_is_seen_alone_where_it_lies_elsewhere(person: Person) -> None:
    program = person.install("deploy/build.sh")
    person.install("deploy/password")
    view = person.see(program=program)
    assert view.shows(program)
    assert not view.shows(f"{person.home}/deploy/password")


def test_what_runs_a_script_is_seen_too(person: Person) -> None:
    interpreter = person.install("langs/run", "\x7fELF")
    program = person.install("deploy/build", f"#!{interpreter} -x\n")
    assert person.see(program=program).shows(interpreter)
    person.install("more/bin/frob", "\x7fELF")
    program = person.install("deploy/other", "#!/usr/bin/env -S frob -x\n")
    assert person.see("more/bin", program=program).shows(f"{person.home}/more/bin/frob")


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("#!/nowhere/sh\n", "No such file or directory"),
        ("#!\n", "No such file"),
        ("#!/etc/passwd\n", "Permission denied"),
        ("", "Exec format error"),
        ("echo x\n", "Exec format error"),
    ],
)
def test_a_program_that_the_kernel_would_refuse_is_126(
    person: Person, text: str, reason: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ic_secrets.isolation.tools._FORMATS", "/nowhere")
    program = person.install("build", text)
    with pytest.raises(ProgramNotExecutableError, match=reason) as caught:
        person.see(program=program)
    assert caught.value.exit_status == 126


def test_a_directory_of_credentials_in_path_is_passed_over(person: Person) -> None:
    tool = person.install(".terminus/bin/terminus")
    view = person.see(".terminus/bin", concealed=(str(person.home / ".terminus"),))
    assert not view.shows(tool)
    assert view.shows("/usr/bin/env")


def test_what_settings_of_php_are_looked_for_in_is_seen(person: Person) -> None:
    settings = person.install("php.d/my.ini", mode=0o644)
    view = person.see(environment={"PHP_INI_SCAN_DIR": f":{person.home}/php.d:{person.home}", "PHPRC": "/nowhere"})
    assert view.shows(settings)
    assert not view.shows(f"{person.home}/diary")


def test_a_linked_yarn_is_seen_and_one_that_cannot_be_is_no_error(person: Person) -> None:
    yarn = person.install("yarn-4/yarn.js", "#!/usr/bin/env node\n")
    (person.home / "bin").mkdir()
    (person.home / "bin/yarn").symlink_to(yarn)
    person.install("bin/pnpm", "#!/bin/sh\nexec ~/hidden/pnpm\n")
    person.install("hidden/pnpm")
    assert person.see("bin").shows(yarn)
