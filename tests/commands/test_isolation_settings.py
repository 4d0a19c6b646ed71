"""Who may isolate a build, what it may then reach and see, and what of ours it never sees."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path

import pytest

from commandline import Cli
from ic_secrets.api import open_build
from ic_secrets.assembly import Context, make_request
from ic_secrets.build import BuildRequest
from ic_secrets.config import SETTINGS, Settings
from ic_secrets.core import Notice
from ic_secrets.errors import ConfigError, UsageError
from ic_secrets.model import Scope

FILE = "ic-secrets.toml"


@pytest.fixture
def work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name in ("project", "home"):
        (tmp_path / name).mkdir(exist_ok=True)
    monkeypatch.chdir(tmp_path / "project")
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    return tmp_path / "project"


def request(
    work: Path,
    flags: Mapping[str, str | None] | None = None,
    *,
    notices: list[Notice] | None = None,
    scope: Scope = Scope.IC,
    own: str = "",
    **environment: str,
) -> BuildRequest:
    """Return the request of a run with those flags, a person's own configuration, and variables."""
    config = work.parent / "own.toml"
    config.write_text(own)
    given = {"HOME": str(work.parent / "home"), "IC_SECRETS_CONFIG": str(config), **environment}
    context = Context(Settings(given, flags), (notices if notices is not None else []).append)
    return make_request(context, "my-site", ["true"], scope=scope, is_run=True)


# --- on and off --------------------------------------------------------------------------------------------


def test_a_flag_a_variable_and_any_file_turn_it_on(work: Path) -> None:
    assert (request(work).isolate, request(work).broker) == ("", False)
    for mode in ("best", "bubblewrap", "landlock"):
        found = request(work, {"isolate": mode})
        assert (found.isolate, found.broker) == (mode, True)
        assert request(work, IC_SECRETS_ISOLATE=mode).isolate == mode
        assert request(work, own=f'isolate = "{mode}"').isolate == mode
    assert request(work, IC_SECRETS_ISOLATE="1").isolate == "best"
    assert request(work, own="isolate = true").isolate == "best"
    (work / FILE).write_text("isolate = true\n")
    assert request(work).isolate == "best"
    assert request(work, IC_SECRETS_ISOLATE="0").isolate == ""


@pytest.mark.parametrize(
    ("value", "words"), [("false", "turn isolate on, not off"), ('"landlock"', "not weaken isolate")]
)
def test_a_checkout_turns_it_neither_off_nor_down(work: Path, value: str, words: str) -> None:
    (work / FILE).write_text(f"isolate = {value}\n")
    with pytest.raises(ConfigError, match=rf"ic-secrets\.toml:1: a checkout may {words}"):
        request(work)


def test_the_stricter_of_a_persons_and_a_checkouts_mode_holds(work: Path) -> None:
    (work / FILE).write_text("isolate = true\n")
    assert request(work, own='isolate = "bubblewrap"').isolate == "bubblewrap"
    assert request(work, own='isolate = "landlock"').isolate == "best"
    assert request(work, own="isolate = false").isolate == "best"
    (work / FILE).write_text('isolate = "bubblewrap"\n')
    assert request(work, own="isolate = true").isolate == "bubblewrap"


def test_a_mode_that_is_none_is_named(work: Path) -> None:
    with pytest.raises(UsageError, match="--isolate takes bubblewrap or landlock"):
        request(work, {"isolate": "docker"})
    with pytest.raises(ConfigError, match="IC_SECRETS_ISOLATE is 'docker'"):
        request(work, IC_SECRETS_ISOLATE="docker")


def test_an_application_is_not_isolated(work: Path) -> None:
    with pytest.raises(UsageError, match="--isolate is for a build"):
        request(work, {"isolate": "best"}, scope=Scope.WEB)
    assert request(work, scope=Scope.WEB, IC_SECRETS_ISOLATE="1").isolate == ""


def test_a_process_that_outlives_the_build_is_refused(work: Path) -> None:
    with pytest.raises(UsageError, match="--allow-background cannot be kept with --isolate"):
        request(work, {"isolate": "best", "allow-background": "true"})
    with pytest.raises(ConfigError, match="cannot be kept with --isolate"):
        request(work, {"isolate": "best"}, IC_SECRETS_ALLOW_BACKGROUND="1")


@pytest.mark.parametrize("name", ["allow-host", "allow-path"])
def test_its_options_alone_are_a_mistake(work: Path, name: str) -> None:
    with pytest.raises(UsageError, match=f"--{name} is for an isolated build"):
        request(work, {name: "db.example.org"})
    assert not request(work, own=f'{name} = ["db.example.org"]').isolate  # a habit of the person's is none


def test_a_way_to_isolate_that_is_not_after_an_equals_sign_is_explained(cli: Cli, work: Path) -> None:
    done = cli("run", "--isolate", "landlock", "my-site", "--", "true", cwd=work, check=125)
    assert b"hint: --isolate takes a value only after `=`; `--` goes before the command" in done.stderr
    assert b"only after" not in cli("run", "my-site", "live", "--isolate", "--", "true", cwd=work, check=125).stderr
    assert b"--isolate[=bubblewrap|landlock]" in cli("run", "--help", cwd=work).stdout


def test_two_steps_and_python_say_that_they_do_not_isolate(
    cli: Cli, work: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    done = cli("pre-build", "my-site", cwd=work, env={"IC_SECRETS_ISOLATE": "1"}, check=125)
    assert b"only `ic-secrets run` isolates one" in done.stderr
    assert b"unrecognized arguments" in cli("pre-build", "--isolate", "my-site", cwd=work, check=125).stderr
    monkeypatch.setenv("IC_SECRETS_ISOLATE", "1")
    with pytest.raises(ConfigError, match="only `ic-secrets run` isolates one"), open_build("my-site", project=work):
        pass


def test_plan_and_explain_know_it(cli: Cli, work: Path) -> None:
    cli.cwd = work
    cli("init", check=0)
    secret = ("http-basic.repo.example.org", "--type", "composer", "--scope", "ic")
    cli("set", "my-site", *secret, stdin=b"deploy a-canary-password", check=0)
    plain, isolated = (cli("explain", "my-site", secret[0], *options, check=0) for options in ((), ("--isolate",)))
    assert (b"to the broker" in plain.stdout, b"to the broker" in isolated.stdout) == (False, True)
    done = cli("plan", "my-site", "--allow-host", "db.example.org", "--", "true")
    assert b"--allow-host is for an isolated build" in done.stderr
    assert (
        b"holds a comma" in cli("run", "--isolate", "--allow-path", "/a,b", "my-site", "--", "true", check=125).stderr
    )


# --- what it may reach and see -----------------------------------------------------------------------------


def test_hosts_and_paths_come_from_flags_and_settings(work: Path) -> None:
    found = request(
        work, {"isolate": "best", "allow-host": "db.example.org,127.0.0.1:3306", "allow-path": "../x:rw,/srv"}
    )
    assert found.reachable == {"db.example.org", "127.0.0.1:3306"}
    assert found.allowed_paths == (f"{work.parent}/x:rw", "/srv")
    found = request(work, {"isolate": "best"}, own='allow-path = ["x", "y:rw", "~/z:rw", "..:rw"]')
    parent = work.parent
    assert found.allowed_paths == (f"{parent}/x", f"{parent}/y:rw", f"{parent}/home/z:rw", f"{parent.parent}:rw")


def test_a_checkout_allows_the_hosts_of_its_own_repositories_alone(work: Path) -> None:
    repositories = [{"type": "composer", "url": "https://repo.example.org:8443"}]
    (work / "composer.json").write_text(json.dumps({"repositories": repositories}))
    (work / FILE).write_text('isolate = true\nallow-host = ["repo.example.org:8443", "169.254.169.254"]\n')
    notices: list[Notice] = []
    assert request(work, notices=notices).reachable == {"repo.example.org:8443"}
    (notice,) = notices
    assert notice.text.endswith(
        "ic-secrets.toml:2 allows hosts that its repositories do not have; a checkout may not, so this is ignored: "
        "169.254.169.254"
    )
    with pytest.raises(ConfigError, match="in a pipeline"):
        request(work, CI="true")
    own = 'allow-host = ["repo.example.org:8443", "169.254.169.254"]'
    assert len(request(work, own=own, CI="true").reachable) == 2  # the person says the same


def test_a_checkout_allows_paths_of_its_own_alone(work: Path) -> None:
    for name in (".git/hooks", "packages", "sub/.git"):
        (work / name).mkdir(parents=True)
    (work / "link").symlink_to("/etc")
    paths = ["packages:rw", ".git", ".git:rw", ".git/hooks:rw", "sub:rw", "link", "../x", "/etc", "~/y:rw"]
    (work / FILE).write_text(f"isolate = true\nallow-path = {json.dumps(paths)}\n")
    notices: list[Notice] = []
    assert request(work, notices=notices).allowed_paths == (f"{work}/packages:rw", f"{work}/.git")
    assert len(notices) == 1
    with pytest.raises(ConfigError, match="in a pipeline"):
        request(work, CI="true")


# --- what it never sees ------------------------------------------------------------------------------------


def test_every_file_of_ours_is_concealed(work: Path) -> None:
    elsewhere = work.parent
    (elsewhere / "real.db").touch()
    (elsewhere / "stores").mkdir()
    (elsewhere / "stores" / "link.db").symlink_to("../real.db")
    for name in ("real.db.audit", "real.db.new", "own-key.k123", "real.dbase"):
        (elsewhere / name).touch()
    concealed = set(
        request(
            work,
            {"isolate": "best", "store": "sqlite:../stores/link.db"},
            own='key-file = "own-key"\nstore = "sealed:other.sealed"\nplugins = ["./mine.py", "installed"]',
            IC_SECRETS_PASSPHRASE_FILE="/run/passphrase",
        ).concealed
    )
    names = (
        "stores/link.db real.db real.db-journal real.db.audit real.db.new own-key own-key.k123 other.sealed mine.py "
    )
    names += "own.toml home/.config/ic-secrets home/.local/share/ic-secrets home/.cache/ic-secrets home/.vault-token"
    assert {str(elsewhere / name) for name in names.split()} <= concealed
    assert "/run/passphrase" in concealed
    assert not concealed & {str(elsewhere / name) for name in ("real.dbase", "installed", "project")}
    assert all(os.path.isabs(path) for path in concealed)


def test_a_store_in_the_project_is_warned_of(work: Path) -> None:
    notices: list[Notice] = []
    request(work, {"isolate": "best", "store": "sqlite:store.db"}, notices=notices)
    assert [notice.text for notice in notices] == [
        "the store store.db is in the project: an isolated build cannot read it, but can damage it"
    ]
    request(work, {"isolate": "best", "store": "sqlite:../store.db"}, notices=notices)
    assert len(notices) == 1


@pytest.mark.parametrize("name", [name for name, known in SETTINGS.items() if known.kind == "path"])
def test_a_setting_that_names_a_file_conceals_it(work: Path, name: str) -> None:
    variable = f"IC_SECRETS_{name.upper().replace('-', '_')}"
    found = request(work, {"isolate": "best"}, **{variable: "/srv/ours"}).concealed
    assert ("/srv/ours" in found) is (name not in {"run-dir", "receipt"})  # the build's own
