"""Configuration files: what each may say, how a mistake is told, and what a hostile checkout cannot do."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from commandline import Cli
from ic_secrets.config.catalogue import SETTINGS, as_text, make_schema
from ic_secrets.config.files import read_config
from ic_secrets.config.settings import Settings
from ic_secrets.core.files import find_upward
from ic_secrets.errors import ConfigError

DOCS = Path(__file__).parents[2] / "docs"
CANARY = "a-canary-of-a-file"
PERSON_ONLY = sorted(name for name, known in SETTINGS.items() if not known.checkout)


def settings(project: Path, person: Path | None = None, **variables: str) -> Settings:
    """The settings in that directory, with the person's file in the other one."""
    environment = {"IC_SECRETS_CONFIG": str(person)} if person else {"IC_SECRETS_CONFIG": os.devnull}
    return Settings(environment | variables, directory=str(project))


@pytest.fixture
def person(tmp_path: Path) -> Path:
    """The person's own file, empty."""
    path = tmp_path / "person" / "config.toml"
    path.parent.mkdir()
    path.write_text("")
    path.chmod(0o600)
    return path


# --- layers ---------------------------------------------------------------------------------------------


def test_flags_win_over_variables_over_the_project_over_the_person(work: Path, person: Path) -> None:
    (work / "ic-secrets.toml").write_text('\ngrace = "2s"\nleaks = "off"\n')
    person.write_text('grace = "1s"\nleaks = "warn"\naudit = "off"\n')
    found = Settings({"IC_SECRETS_CONFIG": str(person), "IC_SECRETS_GRACE": "3s"}, {"grace": "4s"}, str(work))
    assert found.find("grace") == ("4s", "--grace", "flag")
    found = settings(work, person, IC_SECRETS_GRACE="3s")
    assert found.find("grace") == ("3s", "IC_SECRETS_GRACE", "variable")
    assert found.find("leaks") == ("off", f"{work}/ic-secrets.toml:3", "project")
    assert found.find("audit") == ("off", f"{person}:3", "person")
    assert found.find("receipt") is None
    assert found.get("expiry-warning") == ("14d", "default", "default")


def test_a_mistake_in_a_file_of_windows_has_its_line_too(work: Path, person: Path) -> None:
    (work / "ic-secrets.toml").write_bytes(b'site = "my-site"\r\nleeks = "warn"\r\n')
    with pytest.raises(ConfigError, match=r"ic-secrets\.toml:2: .* is not a setting"):
        settings(work, person).find("leaks")


def test_a_key_of_thousands_of_parts_is_refused_before_it_is_parsed(work: Path, person: Path) -> None:
    (work / "ic-secrets.toml").write_text('site = "my-site"\n' + "a." * 20_000 + "b = 1\n")
    with pytest.raises(ConfigError, match=r"ic-secrets\.toml:2: more than 40 dots"):
        settings(work, person).find("leaks")


def test_the_project_is_found_from_below(work: Path, person: Path) -> None:
    below = work / "a/b"
    below.mkdir(parents=True)
    (work / "ic-secrets.toml").write_text('receipt = "out/receipt.json"\n')
    found = settings(below, person)
    assert found.project_file == str(work / "ic-secrets.toml")
    assert found.get("receipt").value == str(work / "out/receipt.json")


@pytest.mark.skipif(os.geteuid() != 0, reason="only root gives files away")
def test_a_file_that_somebody_else_put_above_is_passed_over(tmp_path: Path) -> None:
    path = tmp_path / "ic-secrets.toml"
    path.write_text("")
    work = tmp_path / "work"
    work.mkdir()
    os.chown(path, 12345, 12345)
    assert find_upward(str(work), ["ic-secrets.toml"]) == []
    os.chown(work, 12345, 12345)  # the checkout is theirs, and so is what lies above
    assert find_upward(str(work), ["ic-secrets.toml"]) == [str(path)]


def test_paths_in_a_file_are_seen_from_it(work: Path, person: Path) -> None:
    person.write_text(
        'store = "sealed:a.sealed"\nkey-file = "~/key"\nstate-file = "../state"\nplugins = ["name", "./p.py"]\n'
    )
    found, here = settings(work, person), person.parent
    assert found.store.value == f"sealed:{here}/a.sealed"
    assert found.key_file.value == str(Path("~/key").expanduser())
    assert found.get("state-file").value == str(here.parent / "state")
    assert found.get("plugins").value == f"name,{here}/p.py"
    person.write_text('store = "store.db"\n')
    assert settings(work, person).store.value == f"{here}/store.db"
    person.write_text('store = "bao+https://bao.example.org/secret"\n')
    assert settings(work, person).store.value == "bao+https://bao.example.org/secret"


def test_a_key_of_the_environment_takes_the_place_of_those_of_the_file(work: Path, person: Path) -> None:
    person.write_text('key-file = "key"\nkey-command = "print key"\n')
    assert [source.kind for source in settings(work, person).key_sources] == ["file", "command"]
    found = settings(work, person, IC_SECRETS_KEY="something").key_sources
    assert [source.origin for source in found] == ["IC_SECRETS_KEY"]


def test_the_usual_directories_are_those_of_platformdirs(home: dict[str, str], work: Path) -> None:
    asked = "import platformdirs; print(platformdirs.user_config_dir('ic-secrets'))"
    shown = "from ic_secrets.config.settings import Settings; import os; print(Settings(os.environ).person_file[0])"
    for change in ({}, {"XDG_CONFIG_HOME": ""}, {"XDG_CONFIG_HOME": "relative"}, {"XDG_CONFIG_HOME": "/a//b/"}):
        outputs = [
            subprocess.run(
                [sys.executable, "-c", code], env=home | change, cwd=work, check=True, capture_output=True, text=True
            ).stdout.strip()
            for code in (asked, shown)
        ]
        assert os.path.abspath(f"{outputs[0]}/config.toml") == os.path.abspath(outputs[1]), change


# --- what a checkout may not say ------------------------------------------------------------------------


@pytest.mark.parametrize("name", PERSON_ONLY)
def test_a_checkout_names_no_store_key_command_or_plugin(cli: Cli, work: Path, name: str) -> None:
    value = {"number": "1", "plugins": '["./evil.py"]', "choice": '"off"'}.get(SETTINGS[name].kind, f'"{CANARY}"')
    (work / "evil.py").write_text("open('evil', 'w')")
    (work / "ic-secrets.toml").write_text(f'site = "my-site"\n{name} = {value}\n')
    done = cli("run", "my-site", "--", "touch", "built", cwd=work, check=125)
    assert f"ic-secrets.toml:2: a checkout may not set {name}" in done.stderr.decode()
    assert f"IC_SECRETS_{name.replace('-', '_').upper()}" in done.stderr.decode()
    assert CANARY not in done.stderr.decode()
    assert sorted(path.name for path in work.iterdir()) == ["evil.py", "ic-secrets.toml"]


def test_what_a_checkout_may_not_say_is_known_in_full() -> None:
    """A new setting is a person's own until somebody decides that it is about the build alone."""
    assert set(PERSON_ONLY) == set(
        "store key-file key-command key-keyring min-generation state-file audit audit-file plugins run-dir allow-env "
        "allow-write "
        "bao-token-file bao-role-id bao-secret-id-file bao-wrapped-secret-id-file bao-jwt-file bao-role bao-auth-mount "
        "bao-audience bao-kubernetes-role "
        "bao-timeout cache pantheon-token-file pantheon-url pantheon-timeout".split()
    )


def test_a_checkout_never_runs_a_key_command(cli: Cli, work: Path) -> None:
    (work / "ic-secrets.toml").write_text('key-command = "touch ran"\n')
    for words in (["config"], ["list", "my-site"], ["key", "show"], ["run", "my-site", "--", "true"]):
        assert cli(*words, cwd=work).returncode in {1, 125}
    assert not (work / "ran").exists()


@pytest.mark.parametrize("path", ["/tmp/receipt.json", "../receipt.json", "~/receipt.json", "link/receipt.json"])
def test_a_checkout_writes_its_receipt_below_itself_alone(work: Path, path: str) -> None:
    (work / "link").symlink_to("/tmp")
    (work / "ic-secrets.toml").write_text(f'receipt = "{path}"\n')
    with pytest.raises(ConfigError, match=r"ic-secrets\.toml:1: .*below itself"):
        settings(work).find("receipt")


# --- bad files ------------------------------------------------------------------------------------------


def make_large(path: Path) -> None:
    path.write_bytes(b"#" * (10 << 20))


def make_link(path: Path) -> None:
    secret = path.with_name("elsewhere.toml")
    secret.write_text(f'{CANARY} = "{CANARY}"\n')
    path.symlink_to(secret)


BAD: list[tuple[str, Callable[[Path], Any], str]] = [
    ("link", make_link, "is a symbolic link"),
    ("dangling", lambda path: path.symlink_to("nowhere"), "is a symbolic link"),
    ("fifo", lambda path: os.mkfifo(path), "is not a regular file"),
    ("directory", lambda path: path.mkdir(), "is not a regular file"),
    ("large", make_large, "is larger than 64 KiB"),
    ("nul", lambda path: path.write_bytes(b'site = "a\0b"'), ":1:10: not valid TOML"),
    ("bytes", lambda path: path.write_bytes(b'site = "\xff"'), "is not UTF-8"),
    ("unfinished", lambda path: path.write_text(f'\nsite = "{CANARY}'), ":2: not valid TOML"),
    ("twice", lambda path: path.write_text(f'site = "a"\nsite = "{CANARY}"\n'), ":2:"),
    ("deep", lambda path: path.write_text("site = " + "[" * 30_000), "not valid TOML"),
    ("digits", lambda path: path.write_text("grace = " + "9" * 10_000), "not valid TOML"),
    ("table", lambda path: path.write_text(f'[site]\nname = "{CANARY}"\n'), ":1: not a valid value for site"),
    ("dotted", lambda path: path.write_text(f'\nsite.name = "{CANARY}"\n'), ":2: not a valid value for site"),
    ("type", lambda path: path.write_text("leaks = 1\n"), ":1: not a valid value for leaks"),
    ("number", lambda path: path.write_text("grace = -1\n"), ":1: not a valid value for grace"),
    ("comma", lambda path: path.write_text('only = ["a,b"]\n'), ":1: not a valid value for only"),
    ("none", lambda path: path.write_text("only = []\n"), ":1: not a valid value for only"),
    ("site", lambda path: path.write_text(f'site = "{CANARY}.dev"\n'), ":1: not a valid value for site"),
    ("unknown", lambda path: path.write_text('"no such" = 1\n'), ":1: 'no such' is not a setting"),
]


@pytest.mark.parametrize(("make", "expected"), [case[1:] for case in BAD], ids=[case[0] for case in BAD])
def test_a_bad_file_is_told_with_its_place_and_without_its_content(
    work: Path, make: Callable[[Path], Any], expected: str
) -> None:
    path = work / "ic-secrets.toml"
    make(path)
    with pytest.raises(ConfigError) as caught:
        settings(work).find("site")
    assert str(caught.value).startswith(str(path))
    assert expected in str(caught.value)
    assert CANARY not in str(caught.value) + caught.value.hint


def test_the_line_is_that_of_the_key_and_not_of_text_that_looks_like_it(work: Path) -> None:
    path = work / "ic-secrets.toml"
    path.write_text('leaks-allow = ["""\nsite = 1\n"""]\n\n  "site"  = "my-site"\nenv = "dev"\n')
    found = read_config(str(path), checkout=True)
    assert (found["site"].line, found["env"].line, found["leaks-allow"].line) == (5, 6, 1)


def test_many_lines_that_look_like_a_key_take_no_time(work: Path) -> None:
    path = work / "ic-secrets.toml"
    path.write_text('leaks-allow = ["""\n' + "site=1\n" * 8000 + '"""]\nsite = "my-site"\n')
    assert read_config(str(path), checkout=True)["site"] == ("my-site", 8003)


@pytest.mark.parametrize("mode", [0o620, 0o602, 0o666, 0o664])
def test_a_persons_file_that_others_can_write_is_refused(work: Path, person: Path, mode: int) -> None:
    person.write_text('key-command = "print key"\n')
    person.chmod(mode)
    with pytest.raises(ConfigError, match="is writable by others"):
        settings(work, person).find("store")


@pytest.mark.skipif(os.geteuid() != 0, reason="only root gives files away")
def test_a_persons_file_of_somebody_else_is_refused(work: Path, person: Path) -> None:
    os.chown(person, 12345, 12345)
    with pytest.raises(ConfigError, match="is owned by another user"):
        settings(work, person).find("store")


def test_a_persons_file_can_be_a_link_to_one_of_theirs(work: Path, person: Path, tmp_path: Path) -> None:
    person.write_text('grace = "1s"\n')
    link = tmp_path / "link.toml"
    link.symlink_to(person)
    assert settings(work, link).get("grace").source == f"{link}:1"


@pytest.mark.parametrize("name", ["key", "passphrase"])
def test_a_key_in_a_file_is_refused_with_the_way_that_there_is(work: Path, person: Path, name: str) -> None:
    person.write_text(f'{name} = "{CANARY}"\n')
    with pytest.raises(ConfigError) as caught:
        settings(work, person).find("store")
    assert "does not belong in a configuration file" in caught.value.hint
    assert CANARY not in str(caught.value)


# --- the table and its schemas --------------------------------------------------------------------------


@pytest.mark.parametrize("checkout", [True, False])
def test_the_published_schema_is_that_of_the_table(checkout: bool) -> None:
    path = DOCS / f"{'project' if checkout else 'person'}-config.schema.json"
    schema = json.loads(path.read_text())
    jsonschema.Draft202012Validator.check_schema(schema)
    assert schema == make_schema(checkout=checkout), f"ic-secrets config --schema … > {path.name} makes it anew"


VALUES: list[object] = [
    "", "a", "my-site", "My Site", "auto", "off", "required", "1s", "1.5h", "s", "a\0b", "true", "a" * 64,
    0, 1, -1, 1.5, 2**63 - 1, 2**63, True, False, [], ["a"], ["a", "b"], ["a,b"], [""], [1], ["a\0"], {}, {"a": 1},
]  # fmt: skip


@pytest.mark.parametrize("name", SETTINGS)
def test_a_file_is_taken_where_its_schema_takes_it(name: str) -> None:
    validator = jsonschema.Draft202012Validator(make_schema(checkout=False))
    for value in VALUES:
        assert (as_text(SETTINGS[name], value) is not None) == validator.is_valid({name: value}), value


def test_the_defaults_of_the_command_line_are_those_of_a_request(cli: Cli, work: Path) -> None:
    from ic_secrets.build.request import EXPIRY_WARNING, BuildRequest

    usual = BuildRequest._field_defaults
    found = settings(work)
    assert found.get_duration("expiry-warning") == EXPIRY_WARNING == usual["expiry_warning"]
    assert found.get_duration("grace") == usual["grace"]
    assert found.get("leaks").value == usual["leaks"]


@pytest.mark.parametrize(
    ("name", "value"), [("no-mask", "perhaps"), ("leaks", "FAIL"), ("audit", "on"), ("grace", "soon"), ("only", ",")]
)
def test_a_variable_that_is_no_such_value_is_an_error(cli: Cli, work: Path, name: str, value: str) -> None:
    cli("init", check=0)
    variable = f"IC_SECRETS_{name.replace('-', '_').upper()}"
    done = cli("run", "my-site", "--", "true", cwd=work, env={variable: value}, check=125)
    assert variable in done.stderr.decode()


def test_run_takes_its_options_from_the_project(cli: Cli, work: Path) -> None:
    cli("init", check=0)
    for name in ("ONE", "TWO"):
        cli("set", "my-site", name, "--type", "env", "--scope", "ic", stdin=b"a-canary-of-a-token", check=0)
    (work / "ic-secrets.toml").write_text(
        'site = "my-site"\nexcept = ["TWO"]\npreserve-env = ["ONE"]\nreceipt = "r.json"\n'
    )
    shown = cli("run", "--", "env", cwd=work, env={"ONE": "before", "OTHER": "x"}, check=0).stdout.decode()
    assert "ONE=before" in shown
    assert "TWO=" not in shown
    assert "OTHER=x" in shown
    assert "OTHER=" not in cli("run", "--pristine", "--", "env", cwd=work, env={"OTHER": "x"}, check=0).stdout.decode()
    assert json.loads((work / "r.json").read_text())["target"]["site"] == "my-site"


def test_no_working_directory_is_no_project(person: Path, tmp_path: Path) -> None:
    gone = tmp_path / "gone"
    gone.mkdir()
    code = (
        "import os; os.chdir(os.environ['GONE']); os.rmdir(os.environ['GONE'])\n"
        "from ic_secrets.config.settings import Settings; assert Settings(os.environ).project_file is None\n"
    )
    environment = {"GONE": str(gone), "IC_SECRETS_CONFIG": str(person), "PATH": os.environ["PATH"]}
    subprocess.run([sys.executable, "-c", code], env=environment, check=True)
